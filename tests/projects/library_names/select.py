raise SystemExit("select.py of the project")
