"""An embedded PostgreSQL: the binaries of a wheel, a life cycle of our own.

    <directory>/data       the database, private to the user that runs the server
    <directory>/server.log
    <directory>/start      lock: one process at a time initialises, starts or stops
    <directory>/owners     lock: held, shared, by every process that uses the server
    <directory>/watchdog   lock: held by the process that stops the server after its last owner

| module | contents |
|---|---|
| `sharing` | `start_embedded`, and a process's share in the server (`Embedded`) |
| `starting` | makes the database, starts the server, waits for it |
| `privileges` | the user and the capabilities that the server gets when we are root |
| `programs` | runs PostgreSQL's programs; makes a sentence of what they say when they fail |
| `watchdog` | a program of its own: stops the server when its last owner is gone |

The server never listens on TCP, only on a Unix socket in a private directory below ``/tmp``: the
path must stay under 107 bytes, on a file system that knows sockets; ``directory`` promises neither.

PostgreSQL refuses to run as root. Then it runs as the system user ``greenroom``, who owns ``data``
and the socket directory. No permission of a directory above them is touched: where one is closed
to others (``/root`` is 0700), the server gets the one capability to pass it.
"""

from greenroom.persistence.embedded.privileges import SERVER_USER
from greenroom.persistence.embedded.sharing import Embedded, start_embedded

__all__ = ["SERVER_USER", "Embedded", "start_embedded"]
