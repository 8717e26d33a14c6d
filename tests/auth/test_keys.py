"""API keys: made, listed, revoked; and what their users reach."""

from __future__ import annotations

import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import Auth
from typer.testing import CliRunner

from greenroom import auth as ready_made
from greenroom.auth import key_file
from greenroom.auth.authenticator import HandlerAuthenticator
from greenroom.auth.calls import Inline
from greenroom.auth.keys import ApiKeys
from greenroom.auth.ready import ReadySettings
from greenroom.cli import app
from greenroom.core.access import AuthSpec
from greenroom.core.errors import ConfigurationError, Refused
from greenroom.core.scopes import SERVER, Scope
from tests.auth.test_authenticator import request_of


def opened(data_dir: Path, keys: str | None = None) -> HandlerAuthenticator:
    found: Any = ready_made.api_keys
    assert isinstance(found, ApiKeys)
    found.open(ReadySettings(data_dir=data_dir, api_keys=keys))
    return HandlerAuthenticator(found, AuthSpec(target="greenroom.auth:api_keys"), Inline())


def commanded(data_dir: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["keys", *arguments, "--data-dir", str(data_dir)])
    assert result.exit_code == 0, result.output
    return result.output


def made(data_dir: Path, *arguments: str) -> str:
    return next(each for each in commanded(data_dir, "create", *arguments).split() if "gr_" in each)


async def test_a_key_lets_its_owner_in_until_it_is_revoked(tmp_path: Path) -> None:
    authenticator = opened(tmp_path)
    key = made(tmp_path, "ada")  # while the server runs
    for headers in ({"x_api_key": key}, {"authorization": f"Bearer {key}"}):
        assert (await authenticator.enter(request_of(**headers))).identity == "ada"
    listed = commanded(tmp_path, "list")
    assert "ada" in listed
    assert key not in listed
    commanded(tmp_path, "revoke", key.split("_")[1])
    with pytest.raises(Refused, match="not valid") as refused:
        await authenticator.enter(request_of(x_api_key=key))
    assert refused.value.status_hint == 401
    assert refused.value.headers()["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("key", ["", "x", "gr_0_0", "gr_%s_0", "Bearer", "\u00e9"])
async def test_what_is_no_key_lets_nobody_in(tmp_path: Path, key: str) -> None:
    good = made(tmp_path, "ada")
    authenticator = opened(tmp_path)
    given = key.replace("%s", good.split("_")[1])
    with pytest.raises(Refused) as refused:
        await authenticator.enter(request_of(x_api_key=given) if key.isascii() else request_of())
    assert refused.value.status_hint == 401


def test_only_hashes_are_stored_and_only_we_may_read_them(tmp_path: Path) -> None:
    key = made(tmp_path, "ada")
    file = tmp_path / key_file.FILE
    assert key.split("_")[2] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_keys_that_are_made_at_once_are_all_there(tmp_path: Path) -> None:
    entries = [key_file.new_key(f"user {n}")[1] for n in range(8)]
    threads = [threading.Thread(target=key_file.add, args=(tmp_path, each)) for each in entries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(key_file.read(tmp_path).by_id.values()) == set(entries)


async def test_keys_of_the_environment(tmp_path: Path) -> None:
    printed = commanded(tmp_path, "create", "team:ada", "--print", "--admin").split()
    key = next(each for each in printed if each.startswith("gr_"))
    entry = next(each for each in printed if "=" in each).partition("=")[2]
    assert not (tmp_path / key_file.FILE).exists()
    gate = await opened(tmp_path, entry).enter(request_of(x_api_key=key))
    assert gate.identity == "team:ada"
    assert await gate.allow("threads", "search", {}) == SERVER
    for wrong in ("ada", "ada:id:nohash", f":{'0' * 64}", f"x:{'0' * 64}"):
        with pytest.raises(ConfigurationError, match="Entry 1 of GREENROOM_API_KEYS"):
            opened(tmp_path, wrong)


async def test_a_broken_file_lets_nobody_in(tmp_path: Path) -> None:
    key = made(tmp_path, "ada")
    authenticator = opened(tmp_path)
    (tmp_path / key_file.FILE).write_text("{")
    with pytest.raises(Refused):
        await authenticator.enter(request_of(x_api_key=key))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        opened(tmp_path)


async def test_what_an_owner_reaches(tmp_path: Path) -> None:
    gate = await opened(tmp_path).enter(request_of(x_api_key=made(tmp_path, "a.da")))
    mine = Scope.of_filter({"owner": "a.da"})
    for resource in ("threads", "crons"):
        for action in ("create", "read", "update", "delete", "search", "create_run"):
            value: dict[str, Any] = {"metadata": {"owner": "bob"}}
            assert await gate.allow(resource, action, value) == mine
            assert value["metadata"]["owner"] == "a.da"
    system = Scope.of_filter({"$or": [{"owner": "a.da"}, {"created_by": "system"}]})
    for action in ("read", "search"):
        value = {"metadata": {}}
        assert await gate.allow("assistants", action, value) == system
        assert value == {"metadata": {}}
    for action in ("create", "update", "delete"):
        value = {"metadata": {"created_by": "system"}}
        assert await gate.allow("assistants", action, value) == mine
        assert value["metadata"] == {"owner": "a.da"}
    for namespace in (("docs",), ("a%2Eda", "docs")):
        value = {"namespace": namespace}
        assert await gate.allow("store", "get", value) == SERVER
        assert value["namespace"] == ("a%2Eda", "docs")


async def test_an_administrator_reaches_everything_and_owns_what_it_makes(tmp_path: Path) -> None:
    gate = await opened(tmp_path).enter(request_of(x_api_key=made(tmp_path, "root", "--admin")))
    value: dict[str, Any] = {"metadata": {}}
    assert await gate.allow("threads", "create", value) == SERVER
    assert value["metadata"] == {"owner": "root"}
    value = {"metadata": {"owner": "ada"}}
    assert await gate.allow("threads", "update", value) == SERVER
    assert value["metadata"] == {"owner": "ada"}
    value = {"namespace": ("ada",)}
    await gate.allow("store", "get", value)
    assert value["namespace"] == ("ada",)


def test_a_missing_key_is_said(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["keys", "revoke", "x", "--data-dir", str(tmp_path)])
    assert isinstance(result.exception, ConfigurationError)
    assert isinstance(ready_made.jwt, Auth)
    with pytest.raises(AttributeError):
        _ = ready_made.other
