"""`greenroom serve`, with fault points: what the files in the directory ``STAGE`` say happens."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from greenroom import cli
from greenroom.core.faults import Staged

if __name__ == "__main__":
    cli.make_server = partial(cli.make_server, faults=Staged(Path(os.environ["STAGE"])))
    sys.argv[1:] = ["serve", *sys.argv[1:]]
    cli.main()
