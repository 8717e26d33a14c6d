"""What runs in an inspector's process, and `asking`, by which the other processes ask it."""
