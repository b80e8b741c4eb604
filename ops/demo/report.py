"""What the demonstration found out, and whether that is good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ops.demo.ledger import Verdict
from ops.demo.plan import TRIALS
from ops.demo.stages import Stage
from ops.demo.tally import Tally
from ops.failover import Failover
from ops.output import print_fields, print_line, print_table

NAMED_MAX = 5


@dataclass(frozen=True, slots=True)
class Rejoined:
    """The killed leader after its restart: `catch_up_ms` from its start until it had what it missed;
    `differences` is the number of tasks that are otherwise there than on the leader (0)."""

    node_id: str
    catch_up_ms: float
    differences: int


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Everything the demonstration has to say; `good` decides the exit status. `stages` are in the order of time."""

    files: int
    skipped: int
    verdict: Verdict
    events_written: int
    killed_at_completed: int
    failover: Failover
    rejoined: Rejoined
    leader_after: str
    term_after: int
    elapsed_s: float
    stages: Sequence[Stage]
    trials_good: bool
    tally: Tally | None

    @property
    def good(self) -> bool:
        return self.verdict.good and self.rejoined.differences == 0 and self.explained_well and self.tally is not None

    @property
    def explained_well(self) -> bool:
        """Whether every trial came to its end, and `explain` was right at each stage."""
        return self.trials_good and bool(self.stages) and not any(stage.wrong for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        verdict = self.verdict
        return {
            "good": self.good,
            "files": self.files,
            "files_skipped": self.skipped,
            "tasks_submitted": verdict.submitted,
            "tasks_completed": verdict.completed,
            "tasks_lost": list(verdict.lost),
            "results_recorded_twice": list(verdict.doubled),
            "results_unconfirmed": list(verdict.unconfirmed),
            "attempts_over_one": verdict.attempts_over_one,
            "events_written": self.events_written,
            "leader_killed": self.failover.killed,
            "killed_at_completed": self.killed_at_completed,
            "failover_ms": round(self.failover.failover_ms, 1),
            "leader_after": self.leader_after,
            "term_after": self.term_after,
            "rejoined": asdict(self.rejoined),
            "stages": [stage.to_json() for stage in self.stages],
            "explained_well": self.explained_well,
            "elapsed_s": round(self.elapsed_s, 2),
            "tally": None if self.tally is None else self.tally.to_json(),
        }


def print_report(report: DemoReport) -> None:
    """The report for people."""
    verdict, failover = report.verdict, report.failover
    print_fields(
        {
            "files": f"{report.files}" + (f" ({report.skipped} skipped)" if report.skipped else ""),
            "tasks submitted": verdict.submitted,
            "tasks completed": verdict.completed,
            "tasks lost": _some(verdict.lost),
            "results recorded twice": _some(verdict.doubled),
            "results unconfirmed": _some(verdict.unconfirmed),
            "attempts over one": verdict.attempts_over_one,
            "events written": report.events_written,
            "leader killed": f"{failover.killed} (SIGKILL) at {report.killed_at_completed} completed tasks",
            "failover": f"{failover.failover_ms:.0f} ms to the first acknowledged write, then {_leader(report)}",
            "restarted node": _rejoined(report.rejoined),
            "time": f"{report.elapsed_s:.1f} s",
        }
    )
    if report.tally is not None:
        _print_tally(report.tally)
    _print_stages(report.stages)
    print_line(
        "nothing was lost, nothing was done twice, `explain` was right at each stage"
        if report.good
        else "FAILED: see above"
    )


def _print_stages(stages: Sequence[Stage]) -> None:
    rows = (
        (f"{stage.at_s:.1f} s", stage.trial, stage.stage, stage.said, stage.wrong or "yes")
        for stage in sorted(stages, key=lambda stage: (TRIALS.index(stage.trial), stage.at_s))
    )
    print_table(("AT", "AN AGENT IS", "STAGE OF ITS TASK", "EXPLAIN SAID", "RIGHT"), rows)


def _rejoined(rejoined: Rejoined) -> str:
    return (
        f"{rejoined.node_id} had everything {rejoined.catch_up_ms:.0f} ms after its start, "
        f"{rejoined.differences} differences"
    )


def _leader(report: DemoReport) -> str:
    return f"{report.leader_after} leads in term {report.term_after}"


def _some(ids: Sequence[str]) -> str:
    """How many, and the first few."""
    if not ids:
        return "0"
    more = ", …" if len(ids) > NAMED_MAX else ""
    return f"{len(ids)}: {', '.join(ids[:NAMED_MAX])}{more}"


def _print_tally(tally: Tally) -> None:
    print_fields(
        {
            "outlined": f"{tally.outlined} files, {tally.classes} classes, {tally.functions} functions",
            "linted": f"{tally.linted} files, {sum(tally.findings.values())} findings",
            "findings": ", ".join(f"{code} {count}" for code, count in tally.findings.items()),
            "not parsable": tally.unparsable or None,
        }
    )
    rows = ((f.complexity, f.name, f"{f.path}:{f.line}") for f in tally.most_complex)
    print_table(("COMPLEXITY", "MOST COMPLEX FUNCTIONS", "WHERE"), rows)
