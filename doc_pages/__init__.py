"""Makes the pages of docs/ that come from the code, for `make settings`. Not part of the wheel."""
