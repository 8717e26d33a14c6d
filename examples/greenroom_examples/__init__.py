"""Small graphs to look at, to copy from, and to try a server with."""
