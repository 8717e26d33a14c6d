"""The run actor's process: it executes runs and holds their event logs."""
