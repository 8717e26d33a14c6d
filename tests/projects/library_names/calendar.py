raise SystemExit("calendar.py of the project")
