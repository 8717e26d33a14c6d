raise SystemExit("email.py of the project")
