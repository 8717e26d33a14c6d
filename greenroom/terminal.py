"""What the commands show: results, notes, errors, and the step that is under way."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

out = Console(highlight=False, soft_wrap=True)
err = Console(highlight=False, soft_wrap=True, stderr=True)

Progress = Callable[[str], None]
"""Is told the step that begins; an empty one ends what is shown."""


@contextmanager
def steps() -> Generator[Progress, None, None]:
    """Shows the step that is under way: a spinner on a terminal, else one line per step."""
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


def note(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        err.print(f"[yellow]Note:[/yellow] {escape(sentence)}")


def complain(sentence: str) -> None:
    err.print(f"[red]Error:[/red] {escape(sentence)}")
