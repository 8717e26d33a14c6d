"""The fork server: processes of a server's own Ray are forked, with everything imported.

Ray starts the process of each actor as a new interpreter, which imports Ray, LangGraph and this
server: 1.5 to 2.5 s of CPU, and 70 to 130 MiB for itself. The fork server imports them once, and
its forks become the processes of actors. A fork is there in a tenth of that time, and shares the
memory that it does not change.

- `server` is the fork server. It has one thread, and never becomes the process of an actor itself.
- `program` is what Ray starts in place of its own program. It asks the fork server for a process,
  and ends; without an answer it goes on as Ray's own program.
- `starting` starts the fork server, and ends it.

`program` imports only the standard library, because it has to be quick.
"""
