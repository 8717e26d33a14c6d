"""Modules that several kinds of processes share. They import no other package of `actors`."""
