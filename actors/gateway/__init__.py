"""The gateway's process, a replica of Ray Serve: it answers HTTP."""
