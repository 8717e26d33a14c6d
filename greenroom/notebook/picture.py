"""Figures without pyplot: no global state, no backend; notebooks show them like other figures."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

DOTS_PER_INCH = 110


class Picture:
    """A matplotlib figure that is shown as an image.

    Attributes:
        figure: the figure, for further changes.
    """

    def __init__(self, figure: Figure, description: str) -> None:
        self.figure = figure
        self._description = description

    def save(self, file: Path | str) -> None:
        """Writes the picture to a file; the extension of its name selects the format."""
        self.figure.savefig(file, dpi=DOTS_PER_INCH, bbox_inches="tight")

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.figure.savefig(
            file,
            format="png",
            dpi=DOTS_PER_INCH,
            bbox_inches="tight",
            # The same figure is the same bytes.
            metadata={"Software": None},
        )
        return file.getvalue()

    def __repr__(self) -> str:
        return f"<{self._description}>"
