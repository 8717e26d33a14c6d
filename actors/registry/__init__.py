"""What runs in a registry's process: it decides and records every status, and keeps the actors."""
