"""Settings: what is read, what is refused, and what Ray is told."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from doc_pages.settings import GROUPS
from greenroom import environment
from greenroom.core.errors import ConfigurationError
from greenroom.environment import free_block, haproxy_dir, ray_environment
from greenroom.logs import LogSettings, configure_logs, noting
from greenroom.settings import Settings, variable

ROOT = Path(__file__).parent.parent
LONGEST_SOCKET_PATH = 107
NODE_ID_LENGTH = 56


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("GREENROOM_", "RAY_"))]:
        monkeypatch.delenv(name)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_PORT", "8123")
    monkeypatch.setenv("GREENROOM_HEARTBEAT_S", "0.5")
    monkeypatch.setenv("GREENROOM_HAPROXY", "off")
    settings = Settings.read()
    assert (settings.port, settings.heartbeat_s, settings.haproxy) == (8123, 0.5, False)


def test_the_command_line_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_PORT", "8123")
    monkeypatch.setenv("GREENROOM_HOST", "0.0.0.0")
    settings = Settings.read(port=9000, host=None)
    assert (settings.port, settings.host) == (9000, "0.0.0.0")


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_DATABASE_URL", "")
    assert Settings.read().database_url is None


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("PORT", "eighty", "a whole number from 1 to 65535"),
        ("PORT", "65536", "a whole number from 1 to 65535"),
        ("HEARTBEAT_S", "0", "a number greater than 0"),
        ("DRAIN_S", "-1", "a number of at least 0"),
        ("READ_WAIT_S", "inf", "a number greater than 0"),
        ("OBJECT_STORE_MIB", "79", "a whole number of at least 80"),
        ("DASHBOARD", "perhaps", "true or false"),
        ("LOG_LEVEL", "loud", "one of debug, info, warning, error"),
    ],
)
def test_a_bad_value_is_answered_with_variable_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(f"GREENROOM_{name}", value)
    with pytest.raises(ConfigurationError) as raised:
        Settings.read()
    assert str(raised.value) == f"GREENROOM_{name} is {value!r}, but must be {allowed}."


def test_a_typo_is_refused_and_the_right_name_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_HEARTBEATS", "5")
    with pytest.raises(ConfigurationError, match="did you mean GREENROOM_HEARTBEAT_S"):
        Settings.read()


def test_a_password_is_in_no_message_and_in_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_DATABASE_URL", "mysql://ada:secret@host/db")
    with pytest.raises(ConfigurationError, match="must be a URL that starts with") as raised:
        Settings.read()
    assert "secret" not in str(raised.value)
    assert "secret" not in repr(Settings.read(database_url="postgresql://ada:secret@host/db"))


@pytest.mark.parametrize(
    "url", ["postgresql://host/db", "postgres://host/db", "host=localhost dbname=db"]
)
def test_both_of_libpqs_forms_name_a_database(url: str) -> None:
    assert Settings.read(database_url=url).database_url == url


def test_paths_do_not_depend_on_the_working_directory_of_whoever_reads_them_later() -> None:
    settings = Settings.read(config=Path("here.json"))
    assert settings.config == Path.cwd() / "here.json"
    assert settings.data_dir == Path.cwd() / ".greenroom"


def test_settings_are_frozen_and_travel_to_actors() -> None:
    settings = Settings.read(port=9000)
    with pytest.raises(ValidationError):
        settings.port = 9001
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:8000"), ("::1", "http://[::1]:8000")],
)
def test_the_url_is_one_that_a_client_here_can_use(host: str, url: str) -> None:
    assert Settings.read(host=host).url == url


def test_every_setting_has_a_description_and_a_place_in_the_documentation() -> None:
    placed = [name for names in GROUPS.values() for name in names]
    assert sorted(placed) == sorted(Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())


# --- Ray's environment ----------------------------------------------------------------------------


@pytest.fixture
def with_haproxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "haproxy_available", lambda: True)


def test_below_uv_run_ray_copies_no_working_directory() -> None:
    """Nor starts each process by `uv run` again: its hook looks at what began the server."""
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "from ray._private import ray_constants\n"
            "print(ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV)",
        ],
        env={**os.environ, **ray_environment(Settings.read())},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert found.stdout.strip() == "False"


@pytest.mark.usefixtures("with_haproxy")
def test_ray_knows_every_variable_that_it_is_told() -> None:
    names = [name for name in ray_environment(Settings.read()) if name.startswith("RAY_SERVE_")]
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import pathlib, sys\n"
            "from ray.serve._private import constants\n"
            "text = pathlib.Path(constants.__file__).read_text()\n"
            "print(*[name for name in sys.argv[1:] if f'\"{name}\"' not in text])",
            *names,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert found.stdout.split() == []


@pytest.mark.usefixtures("with_haproxy")
def test_two_servers_on_a_machine_share_neither_ports_nor_sockets(tmp_path: Path) -> None:
    one = ray_environment(Settings.read(data_dir=tmp_path / "one"))
    two = ray_environment(Settings.read(data_dir=tmp_path / "two"))
    for name in one:
        if name.endswith(("_PORT", "_PATH", "_LOC", "_BASE", "_FILE")) and "IMPORT" not in name:
            assert one[name] != two[name], name


@pytest.mark.usefixtures("with_haproxy")
def test_haproxys_sockets_have_paths_that_the_system_accepts(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 30)
    for name, value in ray_environment(Settings.read(data_dir=deep)).items():
        if name.endswith("SOCKET_PATH"):
            assert len(value) + 1 + NODE_ID_LENGTH + len(".tmp") < LONGEST_SOCKET_PATH


@pytest.mark.usefixtures("with_haproxy")
def test_without_haproxy_serves_own_proxy_answers() -> None:
    told = ray_environment(Settings.read(haproxy=False))
    assert told["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
    assert told["RAY_SERVE_ENABLE_DIRECT_INGRESS"] == "0"
    assert "RAY_SERVE_THROUGHPUT_OPTIMIZED" not in told


def test_a_cluster_of_somebody_else_keeps_its_own_authentication() -> None:
    assert ray_environment(Settings.read())["RAY_AUTH_MODE"] == "token"
    assert "RAY_AUTH_MODE" not in ray_environment(Settings.read(ray_address="auto"))


def test_what_the_operator_has_set_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    settings = Settings.read(haproxy=False, data_dir=tmp_path)
    for name in ray_environment(settings):
        if name not in os.environ:
            monkeypatch.setenv(name, "removed at the end of the test")
            monkeypatch.delenv(name)
    in_force = environment.apply_ray_environment(settings)
    assert in_force["RAY_USAGE_STATS_ENABLED"] == "1"
    assert os.environ["RAY_SERVE_LOG_TO_STDERR"] == "0"


@pytest.mark.parametrize(("gateways", "algorithm"), [(1, "first"), (2, "first"), (3, "leastconn")])
def test_the_second_gateway_stands_by_and_more_share_the_requests(
    monkeypatch: pytest.MonkeyPatch, gateways: int, algorithm: str
) -> None:
    monkeypatch.setattr(environment, "haproxy_available", lambda: True)
    found = ray_environment(Settings.read(gateway_replicas=gateways))
    assert found["RAY_SERVE_HAPROXY_BALANCE_ALGORITHM"] == algorithm


def test_setting_the_environment_after_ray_was_imported_is_a_bug_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", sys)
    with pytest.raises(RuntimeError, match="imported before"):
        environment.apply_ray_environment(Settings.read())


def test_a_block_of_ports_is_free_and_below_those_of_outgoing_connections() -> None:
    block = free_block(8)
    assert len(block) == 8
    assert block[-1] < 32_768
    for port in block:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_blocks_of_ports_are_never_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even while nobody listens there yet, as when two servers start together."""
    monkeypatch.setattr(environment, "BLOCKS", (31_000, 31_000 + 3 * environment.PORTS))
    found: set[int] = set()
    for _ in range(4):
        try:
            block = free_block(environment.PORTS)
        except ConfigurationError:
            break
        assert not found & {*block}
        found |= {*block}
    else:
        raise AssertionError("four blocks of three")


def test_the_folder_of_haproxy_belongs_to_one_data_directory(tmp_path: Path) -> None:
    assert haproxy_dir(tmp_path / "a") == haproxy_dir(tmp_path / "b" / ".." / "a")
    assert haproxy_dir(tmp_path / "a") != haproxy_dir(tmp_path / "b")


def test_the_folder_of_haproxy_is_closed_to_others_and_goes_with_the_server(
    tmp_path: Path,
) -> None:
    folder = haproxy_dir(tmp_path)
    folder.mkdir(mode=0o755)
    environment.make_haproxy_dir(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700
    environment.remove_haproxy_dir(tmp_path)
    assert not folder.exists()


def test_a_folder_that_somebody_has_put_in_the_way_is_refused(tmp_path: Path) -> None:
    folder = haproxy_dir(tmp_path)
    (tmp_path / "theirs").mkdir()
    folder.symlink_to(tmp_path / "theirs")
    try:
        with pytest.raises(ConfigurationError, match="another user"):
            environment.make_haproxy_dir(tmp_path)
    finally:
        folder.unlink()


# --- logs -----------------------------------------------------------------------------------------


@pytest.fixture
def logs() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield logging.getLogger("greenroom.tests")
    root.handlers[:] = before
    root.setLevel(level)
    for name in ("greenroom", "actors"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_a_log_line_is_a_sentence_with_its_keys_in_json(logs: logging.Logger) -> None:
    stream = io.StringIO()
    configure_logs("info", "auto", stream)
    logs.info("A run has %s.", "ended", extra={"action": "run_ended", "run_id": Path("r")})
    line = json.loads(stream.getvalue())
    assert line.pop("at").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "greenroom.tests",
        "message": "A run has ended.",
        "action": "run_ended",
        "run_id": "r",
    }


def test_on_a_terminal_a_log_line_is_for_people(logs: logging.Logger) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    configure_logs("info", "auto", stream)
    logs.info("A run has ended.", extra={"run_id": "r"})
    assert stream.getvalue().endswith("info    A run has ended.  run_id=r\n")


async def test_what_is_noted_is_in_every_line_of_the_task_and_of_its_threads(
    logs: logging.Logger,
) -> None:
    """Two runs in one process: neither line carries the other's ids."""
    stream = io.StringIO()
    configure_logs("info", "json", stream, keys={"actor": "a"})

    async def run(name: str) -> None:
        noting(run_id=name, attempt=1)
        logs.info("begun")
        # A node that is no coroutine, and a library that knows nothing of us.
        await asyncio.to_thread(logging.getLogger("some.library").warning, "worked")

    await asyncio.gather(asyncio.create_task(run("one")), asyncio.create_task(run("two")))
    logs.info("over", extra={"actor": "b"})
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    found = sorted((line["message"], line.get("run_id", ""), line["actor"]) for line in lines)
    assert found == [
        ("begun", "one", "a"),
        ("begun", "two", "a"),
        ("over", "", "b"),
        ("worked", "one", "a"),
        ("worked", "two", "a"),
    ]


def test_several_processes_may_share_a_file(logs: logging.Logger, tmp_path: Path) -> None:
    file = tmp_path / "logs" / "greenroom.jsonl"
    for actor in ("one", "two"):
        LogSettings(form="json", file=file).apply(actor=actor)
        logs.info("here")
        handler = logging.getLogger().handlers[0]
        assert isinstance(handler, logging.StreamHandler)
        handler.stream.close()
    actors = [json.loads(line)["actor"] for line in file.read_text().splitlines()]
    assert actors == ["one", "two"]


@pytest.mark.parametrize("form", ["json", "plain"])
def test_a_traceback_is_kept(logs: logging.Logger, form: str) -> None:
    stream = io.StringIO()
    configure_logs("info", "json" if form == "json" else "plain", stream)
    try:
        raise ValueError("no")
    except ValueError:
        logs.exception("It failed.")
    assert "ValueError: no" in stream.getvalue()


def test_libraries_are_heard_from_warnings_on(logs: logging.Logger) -> None:
    stream = io.StringIO()
    configure_logs("debug", "plain", stream)
    logging.getLogger("some.library").info("chatter")
    logging.getLogger("some.library").warning("trouble")
    logs.debug("detail")
    assert "chatter" not in stream.getvalue()
    assert "trouble" in stream.getvalue()
    assert "detail" in stream.getvalue()


def test_every_variable_is_the_prefix_and_the_name() -> None:
    assert variable("port") == "GREENROOM_PORT"
