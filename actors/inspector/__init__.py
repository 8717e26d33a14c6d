"""The inspector's process, and `asking`: the calls of inspectors from other processes."""

from actors.common.garbage import pause_collections

# Before the modules here import LangGraph and other libraries.
pause_collections()
