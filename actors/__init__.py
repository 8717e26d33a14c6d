"""Greenroom on Ray: a package for each kind of process; `calls` and `common` belong to all."""
