raise SystemExit("logging.py of the project")
