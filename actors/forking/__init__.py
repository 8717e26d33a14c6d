"""The fork server: processes of a server's own Ray are forked, with everything imported.

Ray starts each worker as a new interpreter, which imports Ray, LangGraph and the server for 1.5 to
2.5 s of CPU and has 70 MiB to itself. Here one process imports them once, and each worker is a fork
of it: it starts in a tenth of that time, and shares the memory that it does not change.

- `server` is that process. It has one thread, and never becomes a worker itself.
- `worker` is the program that Ray starts in place of its own. It asks the fork server for a process
  and ends; if there is none, it becomes Ray's worker, as without a fork server.
- `starting` starts the fork server, and ends it.

Modules of this package import only the standard library: `worker` has to be quick.
"""
