"""The process that starts and stops a server."""
