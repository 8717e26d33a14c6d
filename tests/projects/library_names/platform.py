raise SystemExit("platform.py of the project")
