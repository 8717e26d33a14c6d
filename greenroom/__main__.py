"""``python -m greenroom`` is the command line."""

from greenroom.graphs.module_path import library_first

# Before anything else is imported: Python has put the working directory first.
library_first()

from greenroom.entry import main  # noqa: E402

main()
