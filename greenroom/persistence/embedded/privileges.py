"""The embedded server's user and capabilities when this process is root."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import stat
from pathlib import Path

from greenroom.core.errors import ConfigurationError
from greenroom.machine import effective_capabilities
from greenroom.persistence.embedded.programs import run, telling_line

SERVER_USER = "greenroom"
CAPABILITIES = {"dac_override": 1, "dac_read_search": 2, "setpcap": 8}
"""The capabilities' bit numbers."""


def server_user() -> pwd.struct_passwd:
    """Returns the system user that runs the server for root; creates the user if necessary."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(SERVER_USER)
    advice = f"make a system user named {SERVER_USER}, run Greenroom as another user than root, or "
    advice += "give a database URL."
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if useradd is None:
        raise ConfigurationError(
            f"PostgreSQL refuses to run as root and there is no useradd: {advice}"
        )
    flags = ["--system", "--no-create-home", "--home-dir", "/nonexistent", "--user-group"]
    done = run([useradd, *flags, "--shell", "/usr/sbin/nologin", SERVER_USER])
    with contextlib.suppress(KeyError):
        # Looked up even after a failure: another process may have made the user meanwhile.
        return pwd.getpwnam(SERVER_USER)
    raise ConfigurationError(
        f"PostgreSQL refuses to run as root and useradd failed ({telling_line(done.stderr)}): "
        f"{advice}"
    )


def become(user: pwd.struct_passwd, binaries: Path, directory: Path) -> list[str]:
    """Returns the command prefix that turns root into ``user``, with only the capabilities that the
    paths need."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ConfigurationError(
            "PostgreSQL refuses to run as root and there is no setpriv (package util-linux): "
            "install it, run Greenroom as another user than root, or give a database URL."
        )
    prefix = [setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    prefix.append("--no-new-privs")
    closed = [path for path in (binaries, directory) if _closed_above(path, user)]
    unusable = not _open_to_others(binaries / "postgres", user, stat.S_IROTH | stat.S_IXOTH)
    if not closed and not unusable:
        return [*prefix, "--bounding-set=-all", "--inh-caps=-all"] if _may("setpcap") else prefix
    # Passing closed directories takes DAC_READ_SEARCH; where a container lacks it, or the program
    # itself is closed to others, DAC_OVERRIDE. The secure bit is for access(2), by which PostgreSQL
    # looks for its own binaries: without it the kernel ignores the capabilities of a non-root user.
    wanted = ("dac_override",) if unusable else ("dac_read_search", "dac_override")
    for name in wanted:
        if _may(name) and _may("setpcap"):
            caps = f"-all,+{name}"
            powers = [f"--{kind}={caps}" for kind in ("bounding-set", "inh-caps", "ambient-caps")]
            return [*prefix, *powers, "--securebits=+no_setuid_fixup"]
    raise ConfigurationError(
        f"The user {user.pw_name} that runs PostgreSQL cannot reach {(closed or [binaries])[0]} "
        f"and this container lacks the capability to let it through: choose a database directory "
        f"(and a virtual environment) below directories that are open to others, or give a "
        f"database URL."
    )


def _closed_above(path: Path, user: pwd.struct_passwd) -> bool:
    return any(
        not _open_to_others(parent, user, stat.S_IXOTH)
        for where in (path, path.resolve())
        for parent in (where, *where.parents)
    )


def _open_to_others(path: Path, user: pwd.struct_passwd, bits: int) -> bool:
    found = path.stat()
    return found.st_uid == user.pw_uid or found.st_mode & bits == bits


def _may(capability: str) -> bool:
    """Returns whether this process has a capability; True if nothing shows it."""
    bits = effective_capabilities()
    return bits is None or bool(bits >> CAPABILITIES[capability] & 1)
