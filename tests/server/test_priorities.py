"""Which processes have a CPU first: those that answer, before those that execute graphs."""

from __future__ import annotations

import os
import re

from greenroom.machine import NICENESS
from tests.serving import Served

USER_CODE = ("RunActor", "Inspector")
ANSWERS = ("RegistryActor", "ServeReplica", "ProxyActor", "HAProxyManager", "ServeController")


def test_user_code_gives_way_to_what_answers(server: Served) -> None:
    found: dict[str, set[int]] = {}
    for title, process in server.actors().items():
        threads = [os.getpriority(os.PRIO_PROCESS, thread.id) for thread in process.threads()]
        [name] = re.findall(r"^\w+", title)
        found.setdefault(name, set()).update(threads)
    code = {name: found[name] for name in USER_CODE}
    assert all(min(each) >= NICENESS for each in code.values()), code
    answers = {name: found[name] for name in ANSWERS if name in found}
    assert len(answers) >= 4
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    assert all(each == {mine} for each in answers.values()), answers
