"""``python -m greenroom`` is the command line."""

from greenroom.cli import main

main()
