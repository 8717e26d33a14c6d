"""`greenroom serve`, with fault points: what the files in the directory ``STAGE`` say happens."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from greenroom import cli
from greenroom.core.faults import Staged


def make_server(settings: Any, configuration: Any) -> Any:
    from actors.server.server import Server

    return Server(settings, configuration, faults=Staged(Path(os.environ["STAGE"])))


if __name__ == "__main__":
    cli.make_server = make_server
    sys.argv[1:] = ["serve", *sys.argv[1:]]
    cli.main()
