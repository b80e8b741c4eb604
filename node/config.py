"""Settings: ONE table drives the command line, the environment, the TOML file, `--help` and the documentation.

What is given later in this list goes before what is given earlier: default, TOML file, environment, command line.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.settings import Limits, ReplicaOptions, SettingsError, Timings
from node.address import Address, check_reachable
from node.duties.settings import DutySettings
from node.join import Joined, Joining
from node.setting_values import (
    choice,
    read_address,
    read_boolean,
    read_members,
    read_node_id,
    read_nodes,
    read_optional_address,
    read_text,
    whole,
)
from node.version import VERSION

SECRET_BYTES_MIN = 16
SECRET_BYTES_MAX = 4_096
DURATION_MS_MAX = 3_600_000
BYTES_MAX = 1 << 46
KEPT_MS_MAX = 100 * 366 * 24 * 3_600_000


class HelpRequested(Exception):  # noqa: N818 - not an error: the text is what was asked for
    """`--help` or `--version` was given; the text is the answer."""


_milliseconds = whole(1, DURATION_MS_MAX)
_bytes = whole(1 << 20, BYTES_MAX)
_kept_ms = whole(0, KEPT_MS_MAX)


# --- the table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `default` as text, as it would be given; `group` where it belongs in the documentation."""

    name: str
    read: Callable[[Any], Any]
    default: str
    summary: str
    group: str = "node"
    metavar: str = "VALUE"

    @property
    def option(self) -> str:
        """On the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """In the environment."""
        return "HIVE_" + self.name.upper()


_PEER = Address("127.0.0.1", 7401)
_TIMINGS = Timings()
_LIMITS = Limits()
_DUTIES = DutySettings()

SETTINGS: tuple[Setting, ...] = (
    Setting("config", read_text, "", "TOML file with settings under these names", metavar="FILE"),
    Setting("node_id", read_node_id, "n1", "name of this node, the same at every start", metavar="ID"),
    Setting("data_dir", read_text, "hive-data", "directory of this node's data; made if it is absent", metavar="DIR"),
    Setting("http", read_address, "127.0.0.1:7400", "where to serve the API", metavar="HOST:PORT"),
    Setting("peer", read_optional_address, "", "where to listen for other nodes; its own entry in members if not given",
            metavar="HOST:PORT"),
    Setting("advertise_http", read_optional_address, "", "HTTP address told to clients, if it differs from http",
            metavar="HOST:PORT"),
    Setting("advertise_peer", read_optional_address, "", "with --join: peer address told to others, if it differs",
            metavar="HOST:PORT"),
    Setting("members", read_members, "", "all nodes, this one too: n1=host:port,n2=…; none: a cluster of one",
            metavar="LIST"),
    Setting("join", read_nodes, "", "instead of members: any node of the cluster to come to, as http://10.0.0.1:7400; "
            "not asked once this node has its data", metavar="URL"),
    Setting("cluster_secret_file", read_text, "", "file with the secret the nodes share; one node alone needs none",
            metavar="FILE"),
    Setting("auto_create_projects", read_boolean, "true", "whether a write makes the project it names", metavar="BOOL"),
    Setting("http_workers", whole(0, 64), "0", "processes beside the node that serve reads; only 0 is built so far",
            metavar="N"),
    Setting("shutdown_timeout_ms", _milliseconds, "10000", "how long requests under way may take at shutdown",
            metavar="MS"),
    Setting("log_level", choice("debug", "info", "warning", "error"), "info", "debug, info, warning or error",
            "logs", "LEVEL"),
    Setting("log_format", choice("text", "json"), "text", "text (key=value) or json", "logs", "FORMAT"),
    Setting("heartbeat_ms", _milliseconds, str(_TIMINGS.heartbeat_ms), "between two heartbeats of the leader",
            "timings", "MS"),
    Setting("election_timeout_min_ms", _milliseconds, str(_TIMINGS.election_timeout_min_ms),
            "shortest silence after which a follower campaigns", "timings", "MS"),
    Setting("election_timeout_max_ms", _milliseconds, str(_TIMINGS.election_timeout_max_ms),
            "longest silence after which a follower campaigns", "timings", "MS"),
    Setting("fallback_ms", _milliseconds, str(_TIMINGS.fallback_ms),
            "a leader that no majority answered for so long steps down", "timings", "MS"),
    Setting("connect_retry_ms", _milliseconds, str(_TIMINGS.connect_retry_ms), "between two tries to reach a peer",
            "timings", "MS"),
    Setting("connect_timeout_ms", _milliseconds, str(_TIMINGS.connect_timeout_ms), "how long such a try may take",
            "timings", "MS"),
    Setting("disk_stall_ms", _milliseconds, str(_TIMINGS.disk_stall_ms), "a disk silent for so long is an alarm",
            "timings", "MS"),
    Setting("late_tick_ms", _milliseconds, str(_TIMINGS.late_tick_ms), "a timer so late counts as a pause",
            "timings", "MS"),
    Setting("clock_skew_max_ms", _milliseconds, str(_TIMINGS.clock_skew_max_ms),
            "a node whose clock is farther from the others' does not lead", "timings", "MS"),
    Setting("state_check_ms", _milliseconds, str(_TIMINGS.state_check_ms),
            "between two comparisons of a piece of the nodes' states", "timings", "MS"),
    Setting("state_sync_ms", _milliseconds, str(_TIMINGS.state_sync_ms), "between two syncs of the state", "timings",
            "MS"),
    Setting("promote_stable_ms", _milliseconds, str(_TIMINGS.promote_stable_ms),
            "a new node that kept up for so long gets its vote", "timings", "MS"),
    Setting("promote_lag_entries_max", whole(1, 1_000_000), str(_LIMITS.promote_lag_entries_max),
            "to be behind by fewer entries counts as keeping up", "timings", "N"),
    Setting("agent_heartbeat_ms", _milliseconds, str(_DUTIES.heartbeat_interval_ms),
            "between two heartbeats of an agent; grows with the fleet", "duties", "MS"),
    Setting("agent_heartbeats_missed_max", whole(1, 1_000), str(_DUTIES.heartbeats_missed_max),
            "an agent that missed so many is offline", "duties", "N"),
    Setting("offer_timeout_ms", _milliseconds, str(_DUTIES.offer_timeout_ms),
            "an offer that is not accepted within it goes to another agent", "duties", "MS"),
    Setting("ended_tasks_kept_ms", _kept_ms, str(_DUTIES.ended_tasks_kept_ms),
            "how long a task is kept after its end; 0: for ever", "retention", "MS"),
    Setting("ended_tasks_kept_max", whole(0, 1 << 40), str(_DUTIES.ended_tasks_kept_max),
            "how many ended tasks the cluster keeps, those that ended last; 0: any number", "retention", "N"),
    Setting("ended_sessions_kept_ms", _kept_ms, str(_DUTIES.ended_sessions_kept_ms),
            "how long a completed or expired session is kept after its last change; 0: for ever", "retention", "MS"),
    Setting("log_keep_bytes", _bytes, str(_LIMITS.log_keep_bytes), "log kept behind a snapshot for slow followers",
            "storage", "BYTES"),
    Setting("segment_bytes", _bytes, str(_LIMITS.segment_bytes), "size of one log file; two are reserved at once",
            "storage", "BYTES"),
    Setting("snapshot_log_bytes", _bytes, str(_LIMITS.snapshot_log_bytes), "log after which a snapshot is taken",
            "storage", "BYTES"),
    Setting("min_free_bytes", whole(0, BYTES_MAX), str(_LIMITS.min_free_bytes),
            "free disk space of any node below which the cluster is read-only; 0: never", "storage", "BYTES"),
    Setting("state_map_bytes", _bytes, str(_LIMITS.state_map_bytes), "largest size of the state", "storage", "BYTES"),
)  # fmt: skip
"""Every setting there is."""

BY_NAME = {setting.name: setting for setting in SETTINGS}


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Settings:
    """All values of one node, checked each for itself and against each other."""

    values: Mapping[str, Any]
    cluster_secret: bytes
    warnings: tuple[str, ...]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def http_bind(self) -> Address:
        """Where to serve the API."""
        bind: Address = self.values["http"]
        return bind

    def replica_options(self, joined: Joined | None = None) -> ReplicaOptions:
        """What the replica is started with; `joined`: what the cluster said that it comes to. Raises SettingsError."""
        values = self.values
        node_id: str = values["node_id"]
        peer = str(values["peer"] or _PEER)
        members: Mapping[str, str] = values["members"] or {node_id: peer}
        if joined is not None:
            members = joined.members
        if node_id not in members:
            raise SettingsError(
                f"members does not name this node, {node_id!r}: it has {', '.join(members)}; "
                "add it, or give another --node-id"
            )
        if len(members) > 1 and not self.cluster_secret:
            raise SettingsError(
                f"cluster_secret_file is needed with {len(members)} members: make one file, copy it to all nodes, "
                "and give it with --cluster-secret-file"
            )
        return ReplicaOptions(
            node_id=node_id,
            data_dir=Path(values["data_dir"]),
            peer_address=str(values["peer"]) if values["peer"] else members[node_id],
            http_address=str(values["advertise_http"] or values["http"]),
            members=members,
            cluster_secret=self.cluster_secret,
            version=VERSION,
            timings=Timings(**{name: values[name] for name in Timings.__dataclass_fields__ if name in values}),
            limits=Limits(**{name: values[name] for name in Limits.__dataclass_fields__ if name in values}),
            join_cluster_id=None if joined is None else joined.cluster_id,
        )

    def has_data(self) -> bool:
        """Whether the data directory says already who this node is, and of which cluster."""
        return Path(self.values["data_dir"], "node.json").exists()

    def joining(self) -> Joining | None:
        """What is told the cluster that this node is to join; None without --join. Raises SettingsError."""
        values = self.values
        if not values["join"]:
            return None
        if values["members"]:
            raise SettingsError(
                "members and join exclude each other: give --members to found a cluster, --join to come to one"
            )
        if not self.cluster_secret:
            raise SettingsError("cluster_secret_file is needed with --join: give the file of the cluster's nodes")
        addresses = {
            "peer": values["advertise_peer"] or values["peer"] or _PEER,
            "http": values["advertise_http"] or values["http"],
        }
        for name, address in addresses.items():
            try:
                check_reachable(str(address))
            except ValueError as error:
                raise SettingsError(
                    f"{name} {address} {error}; with --join, --advertise-{name} tells the cluster another one"
                ) from None
        told = {f"{name}_address": str(address) for name, address in addresses.items()}
        return Joining(values["join"], values["node_id"], secret=self.cluster_secret, **told)

    def duty_settings(self) -> DutySettings:
        """What the leader's duties are started with."""
        values = self.values
        return DutySettings(
            fallback_ms=values["fallback_ms"],
            late_tick_ms=values["late_tick_ms"],
            offer_timeout_ms=values["offer_timeout_ms"],
            heartbeat_interval_ms=values["agent_heartbeat_ms"],
            heartbeats_missed_max=values["agent_heartbeats_missed_max"],
            ended_tasks_kept_ms=values["ended_tasks_kept_ms"],
            ended_tasks_kept_max=values["ended_tasks_kept_max"],
            ended_sessions_kept_ms=values["ended_sessions_kept_ms"],
        )


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings of this start. Raises SettingsError with one line that names the way out, HelpRequested."""
    given = _from_arguments(arguments)
    variables = {
        setting.name: (environment[setting.variable], setting.variable)
        for setting in SETTINGS
        if environment.get(setting.variable)
    }
    file_name = given.get("config") or variables.get("config") or ("", "")
    chosen = {setting.name: (setting.default, "default") for setting in SETTINGS}
    chosen |= _from_file(str(file_name[0])) | variables | given
    values = {}
    for name, (value, origin) in chosen.items():
        try:
            values[name] = BY_NAME[name].read(value)
        except ValueError as error:
            raise SettingsError(f"{origin} {error}, not {value!r}") from None
    if values["http_workers"]:
        raise SettingsError("http_workers must be 0: worker processes are not built yet; leave it out")
    settings = Settings(values, _secret(values["cluster_secret_file"]), _warnings(values))
    settings.joining()
    settings.replica_options()
    return settings


def _from_arguments(arguments: Sequence[str]) -> dict[str, tuple[Any, str]]:
    given: dict[str, tuple[Any, str]] = {}
    options = {setting.option: setting for setting in SETTINGS}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word in ("-h", "--help"):
            raise HelpRequested(help_text())
        if word == "--version":
            raise HelpRequested(f"hive {VERSION}\n")
        option, equals, value = word.partition("=")
        setting = options.get(option)
        if setting is None:
            raise SettingsError(f"{word!r} is no option of hive node; --help lists all")
        if not equals:
            if not rest:
                raise SettingsError(f"{option} needs a value: {option} {setting.metavar}")
            value = rest.pop(0)
        if setting.name in given:
            raise SettingsError(f"{option} is given twice; leave one out")
        given[setting.name] = (value, option)
    return given


def _from_file(file_name: str) -> dict[str, tuple[Any, str]]:
    if not file_name:
        return {}
    try:
        with Path(file_name).open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"config file {file_name} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"config file {file_name} is not TOML: {error}") from None
    for name in document:
        if name not in BY_NAME or name == "config":
            raise SettingsError(f"config file {file_name}: {name!r} is no setting; hive node --help lists all")
    return {name: (value, f"{file_name}: {name}") for name, value in document.items()}


def _secret(file_name: str) -> bytes:
    if not file_name:
        return b""
    try:
        secret = Path(file_name).read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"cluster_secret_file {file_name} cannot be read: {error.strerror}") from None
    if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
        bounds = f"{SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes"
        raise SettingsError(f"cluster_secret_file {file_name} must hold {bounds}, not {len(secret)}")
    return secret


def _warnings(values: Mapping[str, Any]) -> tuple[str, ...]:
    http: Address = values["http"]
    if http.is_loopback:
        return ()
    return (f"http {http} can be reached from other machines, and requests are not authenticated yet",)


# --- documentation ----------------------------------------------------------------------------------------------------

_OPENING = """\
Usage: hive node [OPTION VALUE]...

Run one node. Without options it is a cluster of one on 127.0.0.1:7400 that keeps its data in ./hive-data.
Each option may also be given as environment variable, or in the TOML file named by --config:
--node-id n1, HIVE_NODE_ID=n1, node_id = "n1". The command line goes before the environment, that before the file.
"""


def help_text() -> str:
    """The text of `--help`."""
    lines = [_OPENING]
    group = ""
    for setting in SETTINGS:
        if setting.group != group:
            group = setting.group
            lines.append(f"{group}:")
        default = f" [{setting.default}]" if setting.default else ""
        lines.append(f"  {setting.option + ' ' + setting.metavar:<38} {setting.summary}{default}")
    lines.append(f"  {'--version':<38} print the version")
    lines.append(f"  {'--help':<38} print this")
    return "\n".join(lines) + "\n"


def markdown_table() -> str:
    """The table of settings for the documentation."""
    lines = ["| setting | environment | default | meaning |", "|---|---|---|---|"]
    for setting in SETTINGS:
        default = f"`{setting.default}`" if setting.default else ""
        lines.append(f"| `{setting.option}` | `{setting.variable}` | {default} | {setting.summary} |")
    return "\n".join(lines) + "\n"
