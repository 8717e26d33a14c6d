"""Makes the pages of docs/ that come from the code, for `make settings`. It is not installed."""
