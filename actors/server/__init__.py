"""What runs in the process that starts a server and ends it."""
