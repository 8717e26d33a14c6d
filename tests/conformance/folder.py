"""What both servers serve: the probes and the graphs of this folder, by one `langgraph.json`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

HERE = Path(__file__).parent
PROBES = HERE.parent / "graphs"


def write_folder(folder: Path) -> Path:
    """Makes the folder; returns its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(PROBES / "probe_graphs.py", folder)
    shutil.copy(HERE / "graphs.py", folder / "more_graphs.py")
    configuration = json.loads((PROBES / "langgraph.json").read_text())
    shutil.copy(HERE / "embed.py", folder)
    for name in ("hesitant", "remembering", "seen", "bound"):
        configuration["graphs"][name] = f"./more_graphs.py:{name}"
    configuration["store"] = {
        "index": {"dims": 4, "embed": "./embed.py:embed", "fields": ["text", "tags[*]"]}
    }
    path = folder / "langgraph.json"
    path.write_text(json.dumps(configuration, indent=2))
    return path
