"""Notebooks as they are committed: executed from top to bottom, with what they showed.

``python -m tests.notebook.executing notebooks/*.ipynb`` executes them and writes their outputs.
What is looked at afterwards is the files themselves, and their pictures (``--pictures FOLDER``).
"""

from __future__ import annotations

import argparse
import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from jupyter_core.utils import run_sync
from nbclient import NotebookClient

CELL_PATIENCE_S = 240
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def execute(notebook: Any, folder: Path) -> NotebookClient:
    """Executes a notebook in place; the kernel is left running, for whoever wants to end it."""
    client = NotebookClient(
        notebook,
        timeout=CELL_PATIENCE_S,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
        kernel_name="python3",
    )
    client.km = client.create_kernel_manager()
    client.start_new_kernel()
    client.start_new_kernel_client()
    for place, cell in enumerate(notebook.cells):
        client.execute_cell(cell, place)
    return client


def end(client: NotebookClient) -> None:
    run_sync(client._async_cleanup_kernel)()


def pictures(notebook: Any) -> Iterator[bytes]:
    """The images among the outputs."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            image = output.get("data", {}).get("image/png")
            if image is not None:
                yield base64.b64decode(image)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--pictures", type=Path)
    given = parser.parse_args()
    for file in given.files:
        notebook = nbformat.read(file, as_version=4)
        began_s = time.monotonic()
        client = execute(notebook, file.parent)
        end(client)
        notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
        nbformat.write(notebook, file)
        print(f"{file}: {time.monotonic() - began_s:.0f} s", flush=True)
        if given.pictures is not None:
            for place, picture in enumerate(pictures(notebook), 1):
                (given.pictures / f"{file.stem}-{place}.png").write_bytes(picture)


if __name__ == "__main__":
    main()
