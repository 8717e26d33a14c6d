"""The registry's process: decides and records every status, and keeps the actors."""
