"""What a server in the foreground shows, without a server."""

from __future__ import annotations

import pytest

from greenroom.core.edge_rules import HttpRules
from greenroom.running import page_of
from greenroom.settings import Settings


@pytest.mark.parametrize(
    ("console", "rules", "page"),
    [
        (True, HttpRules(), "/console"),
        (True, HttpRules(mount_prefix="/my/agents"), "/my/agents/console"),
        (False, HttpRules(mount_prefix="/my/agents"), "/my/agents/docs"),
        (True, HttpRules(disabled=frozenset({"ui"})), "/docs"),
    ],
)
def test_a_browser_opens_the_console_where_it_is(console, rules, page) -> None:
    settings = Settings.read(console=console, port=8123)
    assert page_of(settings, rules) == f"http://127.0.0.1:8123{page}"
