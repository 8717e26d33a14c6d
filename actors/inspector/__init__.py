"""The inspector's process, and `asking`: the calls of inspectors from other processes."""
