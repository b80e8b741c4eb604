"""Who had how much: projects take turns, and within a project its sessions, by the run time that their tasks took.

A deficit round robin without rounds: whoever has had least comes next. A task is charged with what tasks of its
session usually take when it is given away, and with what it really took when it ends. Whoever comes back from idleness
begins where the others are, so nobody saves up; and a backlog that nobody could serve is worth at most `CREDIT_MS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from node.duties.holdings import TaskKey

TYPICAL_MS = 1_000.0
LEAST_MS = 1.0
"""What a grant costs at least: without a cost there would be no turns."""
CREDIT_MS = 60_000.0
LEARNING = 0.25


@dataclass(slots=True, eq=False)
class Account:
    """What somebody has had: `settled_ms` of run time, and `charged_ms` for what is with agents now."""

    settled_ms: float
    charged_ms: float = 0.0
    active: int = 0

    @property
    def service_ms(self) -> float:
        """What decides whose turn it is."""
        return self.settled_ms + self.charged_ms


@dataclass(slots=True, eq=False)
class Share(Account):
    """A project. `floor_ms` is where its sessions stand: what the one that was served last had settled. What is only
    charged does not count in it, or newcomers would have to wait for estimates that turn out too high."""

    project: str = ""
    floor_ms: float = 0.0
    flows: dict[str | None, Flow] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Flow(Account):
    """The tasks of one session of a project, or (None) those of no session. `active` counts its tasks that are loaded
    or given away, `runs` who else knows it. `closed`: the session's budget had no room when it was looked at last; then
    tasks with these `kept_keys` (concurrency keys) were left in the state, so that they hide no others of their key."""

    share: Share = field(default_factory=lambda: Share(0.0))
    session: str | None = None
    typical_ms: float = TYPICAL_MS
    runs: int = 0
    closed: bool = False
    kept_keys: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True)
class Charge:
    """What a task that was given away was charged; `started_s` when its attempt began."""

    flow: Flow
    charged_ms: float
    started_s: float | None = None


class Fairness:
    """The shares of all projects that have something to do."""

    def __init__(self) -> None:
        self._shares: dict[str, Share] = {}
        self._charges: dict[TaskKey, Charge] = {}
        self._floor_ms = 0.0

    def __len__(self) -> int:
        return sum(len(share.flows) for share in self._shares.values())

    def flow(self, project: str, session: str | None) -> Flow:
        """The flow of a session; a new one begins where the others are."""
        share = self._shares.get(project)
        if share is None:
            share = self._shares[project] = Share(self._floor_ms, project=project)
        flow = share.flows.get(session)
        if flow is None:
            flow = share.flows[session] = Flow(share.floor_ms, share=share, session=session)
        return flow

    def known(self, project: str, session: str) -> Flow | None:
        """The flow of a session, if it is here."""
        share = self._shares.get(project)
        return None if share is None else share.flows.get(session)

    def reopen(self) -> None:
        """No flow is closed any more."""
        for share in self._shares.values():
            for flow in share.flows.values():
                flow.closed = False
                flow.kept_keys.clear()

    def enter(self, flow: Flow) -> None:
        """A task of the flow is here."""
        share = flow.share
        if share.active == 0:
            share.settled_ms = max(share.settled_ms, self._floor_ms)
        if flow.active == 0:
            flow.settled_ms = max(flow.settled_ms, share.floor_ms)
        flow.active += 1
        share.active += 1

    def leave(self, flow: Flow) -> None:
        """A task of the flow is here no more."""
        flow.active -= 1
        flow.share.active -= 1

    def give(self, key: TaskKey, flow: Flow) -> None:
        """A task was chosen for an agent."""
        share = flow.share
        share.settled_ms = max(share.settled_ms, self._floor_ms - CREDIT_MS)
        flow.settled_ms = max(flow.settled_ms, share.floor_ms - CREDIT_MS)
        self._floor_ms = max(self._floor_ms, share.settled_ms)
        share.floor_ms = max(share.floor_ms, flow.settled_ms)
        self.settle(key, 0.0)
        self._charge(key, flow, max(flow.typical_ms, LEAST_MS))

    def started(self, key: TaskKey, project: str, session: str | None, now_s: float) -> None:
        """An attempt of the task runs, whoever gave it away."""
        charge = self._charges.get(key)
        if charge is None:
            charge = self._charge(key, self.flow(project, session), 0.0)
        if charge.started_s is None:
            charge.started_s = now_s

    def settle(self, key: TaskKey, now_s: float) -> Flow | None:
        """The task is with nobody any more: charge what it took. Returns the flow whose account went down, if so."""
        charge = self._charges.pop(key, None)
        if charge is None:
            return None
        flow, took_ms = charge.flow, 0.0
        if charge.started_s is not None:
            took_ms = max((now_s - charge.started_s) * 1000, LEAST_MS)
            flow.typical_ms += (took_ms - flow.typical_ms) * LEARNING
        for account in (flow, flow.share):
            account.charged_ms -= charge.charged_ms
            account.settled_ms += took_ms
        self.leave(flow)
        return flow if took_ms < charge.charged_ms else None

    def forget_idle(self) -> None:
        """Drop flows that have nothing here and had no more than the others: they would begin there anyway."""
        for share in list(self._shares.values()):
            for flow in list(share.flows.values()):
                if flow.active == flow.runs == len(flow.kept_keys) == 0 and flow.settled_ms <= share.floor_ms:
                    del share.flows[flow.session]
            if not share.flows and share.settled_ms <= self._floor_ms:
                del self._shares[share.project]

    def forget_charges(self) -> None:
        """Nothing that was given away is known any more."""
        for charge in self._charges.values():
            for account in (charge.flow, charge.flow.share):
                account.charged_ms -= charge.charged_ms
            self.leave(charge.flow)
        self._charges.clear()

    def _charge(self, key: TaskKey, flow: Flow, charged_ms: float) -> Charge:
        self.enter(flow)
        for account in (flow, flow.share):
            account.charged_ms += charged_ms
        charge = self._charges[key] = Charge(flow, charged_ms)
        return charge
