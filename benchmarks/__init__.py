"""Benchmarks: one command and one table for Greenroom, bare LangGraph and the reference server."""
