"""An embedded PostgreSQL: the binaries come from a wheel, this package starts and stops them.

    <directory>/data       the database, private to the user that runs the server
    <directory>/server.log
    <directory>/start      lock: one process at a time initialises, starts or stops
    <directory>/owners     lock: held, shared, by every process that uses the server
    <directory>/watchdog   lock: held by the process that stops the server after its last owner

| module | contents |
|---|---|
| `sharing` | `start_embedded`, and a process's share in the server (`Embedded`) |
| `starting` | makes the database, starts the server, waits for it |
| `privileges` | the server's user and capabilities when this process is root |
| `programs` | runs PostgreSQL's programs; turns their error output into a sentence |
| `watchdog` | a separate program: stops the server when its last owner is gone |

The server never listens on TCP, only on a Unix socket in a private directory below
``/tmp`` (or a short ``TMPDIR``): the path must stay under 107 bytes, on a file system with sockets;
``directory`` guarantees neither.

PostgreSQL refuses to run as root. For root, it runs as the system user ``greenroom``, which owns
``data`` and the socket directory. The permissions of the directories above them do not change: if
one is closed to others (``/root`` is 0700), the server gets the one capability to pass it.
"""

from greenroom.persistence.embedded.privileges import SERVER_USER
from greenroom.persistence.embedded.sharing import Embedded, start_embedded

__all__ = ["SERVER_USER", "Embedded", "start_embedded"]
