"""Calls between processes. Every process uses this package."""
