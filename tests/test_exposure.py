"""A server is not open by accident, and its password is not on the command line."""

from __future__ import annotations

import pytest

from greenroom.core.errors import ConfigurationError
from greenroom.exposure import refuse_exposure, refuse_password_on_the_command_line
from greenroom.settings import Settings


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GREENROOM_HOST", "GREENROOM_OPEN", "GREENROOM_ALLOWED_HOSTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_a_server_of_the_network_that_asks_nobody_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="--open"):
        refuse_exposure(Settings.read(host=host), authenticates=False)
    refuse_exposure(Settings.read(host=host, open=True), authenticates=False)
    refuse_exposure(Settings.read(host=host), authenticates=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_server_of_this_machine_needs_no_word(host: str) -> None:
    refuse_exposure(Settings.read(host=host), authenticates=False)


def test_only_a_server_on_loopback_looks_at_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_ALLOWED_HOSTS", "Graphs.internal, b,")
    assert Settings.read().hosts == {"graphs.internal", "b"}
    assert Settings.read(host="0.0.0.0").hosts is None


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:p@h/d", "postgresql://h/d?user=u&password=p", "host=h password=p"],
)
def test_a_password_on_the_command_line_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="GREENROOM_DATABASE_URL"):
        refuse_password_on_the_command_line(url)


@pytest.mark.parametrize("url", [None, "postgresql://u@h/d", "postgresql:///d", "host=h user=u"])
def test_an_address_without_one_is_not(url: str | None) -> None:
    refuse_password_on_the_command_line(url)
