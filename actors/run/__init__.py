"""What runs in a run actor's process: it executes runs and has their event logs."""
