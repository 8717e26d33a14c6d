"""Greenroom on more than one node."""
