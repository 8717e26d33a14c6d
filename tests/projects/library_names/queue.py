raise SystemExit("queue.py of the project")
