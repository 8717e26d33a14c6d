raise SystemExit("token.py of the project")
