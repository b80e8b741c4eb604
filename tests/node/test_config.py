"""Settings: one table, three sources, and errors that tell the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.settings import Limits, SettingsError, Timings
from node import config
from node.address import Address
from node.config import BY_NAME, SETTINGS, HelpRequested, load
from node.join import Joined, Joining
from node.version import VERSION

SECRET = "0123456789abcdef0123456789abcdef"


def test_nothing_needs_to_be_given() -> None:
    settings = load([], {})
    assert settings.http_bind == Address("127.0.0.1", 7400)
    options = settings.replica_options()
    assert (options.node_id, options.peer_address, options.http_address) == ("n1", "127.0.0.1:7401", "127.0.0.1:7400")
    assert dict(options.members) == {"n1": "127.0.0.1:7401"}
    assert (options.timings, options.limits) == (Timings(), Limits())
    assert options.version == VERSION
    assert settings.auto_create_projects is True
    assert settings.warnings == ()


def test_the_defaults_of_the_table_are_those_of_the_parts() -> None:
    settings = load([], {})
    for name, value in ((name, getattr(Timings(), name)) for name in Timings.__dataclass_fields__):
        assert getattr(settings, name) == value
    assert settings.duty_settings().fallback_ms == Timings().fallback_ms


def test_the_command_line_goes_before_the_environment_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "hive.toml"
    file.write_text('node_id = "file"\nlog_level = "error"\nheartbeat_ms = 40\nauto_create_projects = false\n')
    environment = {"HIVE_NODE_ID": "env", "HIVE_LOG_LEVEL": "debug", "HIVE_ENDPOINTS": "not ours"}
    settings = load(["--config", str(file), "--node-id=cli"], environment)
    assert (settings.node_id, settings.log_level, settings.heartbeat_ms) == ("cli", "debug", 40)
    assert settings.auto_create_projects is False
    assert load([], {"HIVE_CONFIG": str(file)}).node_id == "file"
    assert load([], {"HIVE_NODE_ID": ""}).node_id == "n1"


def test_members(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    members = "n1=10.0.0.1:7401, n2=10.0.0.2:7401,n3=[::1]:7401"
    settings = load(["--members", members, "--node-id", "n2", "--cluster-secret-file", str(secret)], {})
    options = settings.replica_options()
    assert dict(options.members) == {"n1": "10.0.0.1:7401", "n2": "10.0.0.2:7401", "n3": "[::1]:7401"}
    assert options.peer_address == "10.0.0.2:7401"
    assert options.cluster_secret == SECRET.encode()
    file = tmp_path / "hive.toml"
    file.write_text(f'cluster_secret_file = "{secret}"\n[members]\nn1 = "10.0.0.1:1"\nn2 = "10.0.0.2:1"\n')
    listening = load(["--config", str(file), "--peer", "0.0.0.0:9", "--advertise-http", "a.example:80"], {})
    options = listening.replica_options()
    assert (options.peer_address, options.members["n1"]) == ("0.0.0.0:9", "10.0.0.1:1")
    assert options.http_address == "a.example:80"


def test_joining(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    given = ["--node-id", "n4", "--join", "http://10.0.0.1:7400/, 10.0.0.2:7400", "--cluster-secret-file", str(secret),
             "--http", "10.0.0.4:7400", "--peer", "10.0.0.4:7401", "--data-dir", str(tmp_path / "n4")]  # fmt: skip
    settings = load(given, {})
    asked = (Address("10.0.0.1", 7400), Address("10.0.0.2", 7400))
    assert settings.joining() == Joining(asked, "n4", "10.0.0.4:7401", "10.0.0.4:7400", SECRET.encode())
    told = {"n1": "10.0.0.1:7401", "n4": "10.0.0.4:7401"}
    options = settings.replica_options(Joined("c1", told))
    assert (options.join_cluster_id, dict(options.members), options.peer_address) == ("c1", told, "10.0.0.4:7401")
    later = settings.replica_options()
    assert (later.join_cluster_id, dict(later.members)) == (None, {"n4": "10.0.0.4:7401"})
    assert not settings.has_data()
    (tmp_path / "n4").mkdir()
    (tmp_path / "n4" / "node.json").write_text("{}")
    assert settings.has_data()
    assert load([], {}).joining() is None


def test_a_node_that_joins_tells_where_it_is_reached(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    given = ["--join", "10.0.0.1:7400", "--cluster-secret-file", str(secret)]
    everywhere = ["--http", "0.0.0.0:7400", "--peer", "0.0.0.0:7401"]
    with pytest.raises(SettingsError, match=r"peer 0\.0\.0\.0:7401 .* --advertise-peer"):
        load([*given, *everywhere], {})
    with pytest.raises(SettingsError, match=r"http 0\.0\.0\.0:7400 .* --advertise-http"):
        load([*given, *everywhere, "--advertise-peer", "n4.example:7401"], {})
    advertised = ["--advertise-peer", "n4.example:7401", "--advertise-http", "n4.example:7400"]
    settings = load([*given, *everywhere, *advertised], {})
    joining = settings.joining()
    assert joining is not None
    assert (joining.peer_address, joining.http_address) == ("n4.example:7401", "n4.example:7400")
    options = settings.replica_options(Joined("c1", {"n1": joining.peer_address}))
    assert options.peer_address == "0.0.0.0:7401", "it listens where it was told to"


def test_an_address_others_can_reach_is_allowed_with_a_warning() -> None:
    for address in ("0.0.0.0:7400", "10.0.0.1:7400", "[::]:7400", "example.com:7400"):
        assert len(load(["--http", address], {}).warnings) == 1
    for address in ("127.0.0.1:0", "[::1]:7400", "localhost:7400"):
        assert load(["--http", address], {}).warnings == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nope", "1"], ["--nope", "--help"]),
        (["extra"], ["extra", "--help"]),
        (["--http"], ["--http", "needs a value"]),
        (["--http", "7400"], ["--http", "host:port"]),
        (["--http", "127.0.0.1:99999"], ["--http", "host:port"]),
        (["--http", "127.0.0.1:x"], ["--http", "host:port"]),
        (["--http", "a:1", "--http", "b:1"], ["--http", "twice"]),
        (["--node-id", "a b"], ["--node-id"]),
        (["--node-id", ""], ["--node-id", "empty"]),
        (["--node-id", "n9", "--members", "n1=a:1"], ["n9", "n1", "--node-id"]),
        (["--members", "n1"], ["--members", "host:port"]),
        (["--members", "n1=a:1,n1=b:1"], ["--members", "twice"]),
        (["--members", "n1=a:1,n2=a:1"], ["--members", "same address"]),
        (["--members", "n1=a:1,n2=b:1"], ["cluster_secret_file", "--cluster-secret-file"]),
        (["--join", "http://10.0.0.1:7400"], ["cluster_secret_file", "--join"]),
        (["--join", "10.0.0.1"], ["--join", "http://127.0.0.1:7400"]),
        (["--join", "https://10.0.0.1:7400"], ["--join", "http://127.0.0.1:7400"]),
        (["--join", "10.0.0.1:7400", "--members", "n1=a:1"], ["members", "join", "exclude"]),
        (["--cluster-secret-file", "missing"], ["cluster_secret_file", "missing"]),
        (["--http-workers", "2"], ["http_workers", "0"]),
        (["--http-workers", "-1"], ["--http-workers"]),
        (["--log-level", "loud"], ["--log-level", "debug"]),
        (["--auto-create-projects", "maybe"], ["--auto-create-projects", "true or false"]),
        (["--heartbeat-ms", "0"], ["--heartbeat-ms", "whole number"]),
        (["--heartbeat-ms", "1.5"], ["--heartbeat-ms", "whole number"]),
        (["--heartbeat-ms", "200"], ["election_timeout_min_ms", "heartbeat_ms"]),
        (["--fallback-ms", "100"], ["fallback_ms"]),
        (["--config", "missing.toml"], ["missing.toml", "cannot be read"]),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments: list[str], words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load(arguments, {})
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text


@pytest.mark.parametrize("content", ["nope = 1", 'config = "x"', "= 1", "log_level = 5", "[http]\nx = 1"])
def test_bad_files(tmp_path: Path, content: str) -> None:
    file = tmp_path / "hive.toml"
    file.write_text(content)
    with pytest.raises(SettingsError) as caught:
        load(["--config", str(file)], {})
    assert str(file) in str(caught.value)


def test_bad_variables_are_named() -> None:
    with pytest.raises(SettingsError, match="HIVE_HTTP must be host:port"):
        load([], {"HIVE_HTTP": "x"})


def test_short_secrets_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    with pytest.raises(SettingsError, match="16 to 4096 bytes") as caught:
        load(["--cluster-secret-file", str(secret)], {})
    assert "hunter2" not in str(caught.value)


def test_every_setting_is_in_help_and_documentation() -> None:
    with pytest.raises(HelpRequested) as caught:
        load(["--help"], {})
    table = config.markdown_table()
    assert len(BY_NAME) == len(SETTINGS)
    for setting in SETTINGS:
        assert f"  {setting.option} {setting.metavar}" in str(caught.value)
        assert f"| `{setting.option}` | `{setting.variable}` |" in table
        assert setting.summary in str(caught.value)
    with pytest.raises(HelpRequested, match=VERSION):
        load(["--version"], {})


def test_the_version_is_that_of_the_distribution() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'version = "{VERSION}"' in project
