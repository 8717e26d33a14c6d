"""Greenroom on Ray: a package for each kind of process; `calls` and `common` belong to all."""

from greenroom.graphs.module_path import library_first

# In each of these processes, before it imports anything else: Ray may have put the working
# directory first, with files of a project that are called like modules of Python.
library_first()
