"""The terminal output of the commands: results, notes, errors, and the current step."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from greenroom.core.units import MIB

out = Console(highlight=False, soft_wrap=True)
err = Console(highlight=False, soft_wrap=True, stderr=True)

LINE_MAX = MIB

Progress = Callable[[str], None]
"""Takes the step that begins; an empty text ends the display."""


@contextmanager
def steps() -> Generator[Progress, None, None]:
    """Shows the current step: as a spinner on a terminal, else as one line per step."""
    if not err.is_terminal:

        def line(step: str) -> None:
            if step:
                err.print(f"{step} ...", markup=False)

        yield line
        return
    with err.status("") as status:

        def spin(step: str) -> None:
            if step:
                status.update(f"{escape(step)} ...")
                status.start()
            else:
                status.stop()

        yield spin


@contextmanager
def errors_of(path: Path) -> Generator[None, None, None]:
    """Shows the errors that `greenroom.logs` sends from other processes to a socket.

    Args:
        path: the path of the socket, which is made here; its directory is closed to other users.
    """
    with suppress(FileNotFoundError):
        path.unlink()
    receiving = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiving.bind(str(path))

    def show() -> None:
        while True:
            try:
                line = receiving.recv(LINE_MAX)
            except OSError:
                return
            if not line:
                return
            err.print(line.decode("utf-8", "replace"), markup=False)

    thread = threading.Thread(target=show, name="errors", daemon=True)
    thread.start()
    try:
        yield
    finally:
        # Ends a `recv` that waits; `close` alone would not.
        receiving.shutdown(socket.SHUT_RDWR)
        thread.join()
        receiving.close()
        path.unlink(missing_ok=True)


def note(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        err.print(f"[yellow]Note:[/yellow] {escape(sentence)}")


def complain(sentence: str) -> None:
    err.print(f"[red]Error:[/red] {escape(sentence)}")
