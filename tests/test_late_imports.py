"""What is imported late is there for whoever uses it, and for nobody else."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from greenroom import late_imports
from greenroom.late_imports import import_less
from tests.fresh import run
from tests.waiting import BOUND_S

LESS = "import sys\nfrom greenroom.late_imports import import_less\nimport_less()\n"


def test_langgraph_is_imported_without_it_and_langsmith_works() -> None:
    """Else every process that executes graphs takes a quarter longer to start; or fails."""
    pytest.importorskip("langsmith.types.run_select_field", reason="this langsmith has no types")
    run(
        f"{LESS}import langgraph.graph, langchain_core.messages, langsmith\n"
        "assert 'langsmith.client' in sys.modules\n"
        "assert 'langsmith.types.run_select_field' in sys.modules\n"
        "assert 'langsmith.types.run' not in sys.modules\n"
        "from langsmith.types import Run\n"
        "from langsmith.types.run import Run as RunItself\n"
        "assert Run is RunItself is langsmith.types.Run\n"
        "assert sys.modules['langsmith.types'].__spec__.loader.name == 'langsmith.types'\n"
        "assert not hasattr(langsmith.types, 'Absent')\n"
        "langsmith.Client(api_url='http://127.0.0.1:9', api_key='none')\n"
    )


def test_httpx_works_without_its_command_line() -> None:
    """Else every process loads it: 4 MiB and a tenth of a second; or httpx does not load at all."""
    run(f"{LESS}import httpx\nhttpx.AsyncClient()\nassert sys.modules['httpx._main'] is None\n")


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the code of a package that is imported late."""
    name = f"late_{tmp_path.name}"
    monkeypatch.setattr(late_imports, "LATE", name)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / name).mkdir()
    (tmp_path / name / "part.py").write_text("VALUE = 1\n")
    import_less()
    return tmp_path / name / "__init__.py"


def imported(late: Path, part: str = "") -> object:
    __import__(f"{late.parent.name}{part}")
    return sys.modules[late.parent.name]


def test_a_part_is_imported_without_the_package(late: Path) -> None:
    late.write_text("from .part import VALUE\nOTHER = 2\n")
    package = imported(late, ".part")
    assert package.part.VALUE == 1  # type: ignore[attr-defined]
    assert "OTHER" not in vars(package)
    assert package.OTHER == 2  # type: ignore[attr-defined]
    assert package.VALUE == 1  # type: ignore[attr-defined]


def test_a_package_that_asks_for_itself_finds_what_it_has_so_far(late: Path) -> None:
    late.write_text(f"A = 1\nimport {late.parent.name} as me\nB = getattr(me, 'C', me.A)\nC = 3\n")
    package = imported(late)
    assert (package.B, package.C) == (1, 3)  # type: ignore[attr-defined]


def test_an_error_of_the_package_is_heard_by_all_who_ask(late: Path) -> None:
    late.write_text("raise RuntimeError('broken')\n")
    package = imported(late)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            _ = package.anything  # type: ignore[attr-defined]


def test_threads_that_ask_at_once_all_find_it(late: Path) -> None:
    late.write_text("import time\nA = 1\ntime.sleep(0.05)\nB = 2\n")
    package = imported(late)
    begin = threading.Barrier(4, timeout=BOUND_S)
    found: list[object] = []

    def ask() -> None:
        begin.wait()
        found.append(package.B)  # type: ignore[attr-defined]

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_S)
    assert found == [2] * 4


def test_a_package_that_is_not_installed_is_not_found(late: Path) -> None:
    late.parent.rename(late.parent.parent / "another")
    with pytest.raises(ModuleNotFoundError, match=late.parent.name):
        imported(late)


def test_it_is_found_by_one_finder(late: Path) -> None:
    before = list(sys.meta_path)
    import_less()
    assert sys.meta_path == before
