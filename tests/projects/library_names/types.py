raise SystemExit("types.py of the project")
