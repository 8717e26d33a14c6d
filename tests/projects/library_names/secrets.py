raise SystemExit("secrets.py of the project")
