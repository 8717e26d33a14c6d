"""The registry's process: decides and records every status, and keeps the actors."""

from actors.common.garbage import pause_collections

# Before the modules here import LangGraph and other libraries.
pause_collections()
