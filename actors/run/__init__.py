"""The run actor's process: it executes runs and holds their event logs."""

from actors.common.garbage import pause_collections

# Before the modules here import LangGraph and other libraries.
pause_collections()
