"""One command, one table: Greenroom beside bare LangGraph and the reference server."""
