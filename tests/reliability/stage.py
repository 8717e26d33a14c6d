"""Where a server of `faulty_server.py` is told to die, to fail or to wait."""

from __future__ import annotations

from pathlib import Path


class Stage:
    """The directory that tells a server where to stop."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)

    def plan(self, place: str, action: str) -> None:
        self.clear()
        self.also(place, action)

    def also(self, place: str, action: str) -> None:
        """Plans one more."""
        (self.directory / "written").write_text(action)
        (self.directory / "written").rename(self.directory / place)

    def clear(self) -> None:
        for left in self.directory.iterdir():
            left.unlink(missing_ok=True)

    def reached(self, place: str) -> bool:
        return (self.directory / f"{place}.reached").exists()

    def go_on(self, place: str) -> None:
        (self.directory / f"{place}.go").touch()
