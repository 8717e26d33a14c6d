"""The guard of an actor's process, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from actors.common.guard import EXIT_MEMORY, EXIT_SILENCE, EXIT_UNGUARDED

BEGIN = """
import os, resource, time
from actors.common.guard import Guard

def until_ended():
    time.sleep(30)
    os._exit(1)
"""

STARVED = """
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
guard = Guard(silence_s=60, memory_mib=300)
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    time.sleep(1)
for descriptor in held:
    os.close(descriptor)
taken = bytearray(os.urandom(1 << 20) * 400)
until_ended()
"""

ROBBED = """
guard = Guard(silence_s=60, memory_mib=300)
os.closerange(3, 100)
until_ended()
"""

UNHEARD = """
def say(resident_mib):
    raise OSError(24, "Too many open files")

guard = Guard(silence_s=60, memory_mib=1, exhausted=say)
until_ended()
"""

SAID = """
guard = Guard(silence_s=60, memory_mib=1, exhausted=lambda mib: print(mib > 1, flush=True))
until_ended()
"""

WITHOUT_PROC = """
from pathlib import Path
from greenroom import machine

machine.PROC = Path("/none")
"""

SILENCE = """
guard = Guard(silence_s=0.5)
until_ended()
"""

HEARD = """
guard = Guard(silence_s=1)
for _ in range(8):
    time.sleep(0.25)
    guard.hear()
os._exit(0)
"""


def ended(body: str) -> tuple[int, str]:
    """How a process with this in it ended, and what it said."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + body], capture_output=True, timeout=60, check=False
    )
    return done.returncode, done.stdout.decode() + done.stderr.decode()


def test_who_had_no_descriptors_left_is_still_ended_for_its_memory() -> None:
    assert ended(STARVED)[0] == EXIT_MEMORY


def test_a_guard_that_cannot_look_any_more_ends_the_process_and_says_so() -> None:
    code, said = ended(ROBBED)
    assert code == EXIT_UNGUARDED
    assert "guard of an actor failed" in said


def test_what_cannot_be_said_keeps_nobody_alive() -> None:
    assert ended(UNHEARD)[0] == EXIT_MEMORY
    assert ended(SAID) == (EXIT_MEMORY, "True\n")


def test_a_system_without_proc_has_a_memory_limit_too() -> None:
    assert ended(WITHOUT_PROC + SAID) == (EXIT_MEMORY, "True\n")


def test_silence_ends_the_process_and_a_word_does_not() -> None:
    assert ended(SILENCE)[0] == EXIT_SILENCE
    assert ended(HEARD)[0] == 0
