"""Cases from public trackers of other projects, as `docs/compatibility.md` lists them.

Each was a failure here once. A row says what people do, what the right answer is, and which test
holds it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One case.

    Attributes:
        id: its name in our notes.
        what: what people do.
        right: the right answer.
        test: the test that holds it, ``path::name``, or the path of a module.
    """

    id: str
    what: str
    right: str
    test: str


CASES = (
    Case(
        id="R1",
        what='`"env": ".env"` in a clone, which has no such file',
        right="served, with a note",
        test="tests/graphs/test_variables.py::test_an_env_file_that_no_clone_has_is_a_note",
    ),
)
