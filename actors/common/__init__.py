"""What several kinds of processes share. It imports no other package of `actors`."""
