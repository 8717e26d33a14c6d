"""Applications beside the server: what is said when one cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from greenroom.core.errors import ConfigurationError
from greenroom.graphs.configuration import Configuration, parse_configuration
from tests.later import Later

if TYPE_CHECKING:
    from actors.server import applications
else:
    applications = Later("actors.server.applications")


@pytest.fixture(autouse=True)
def _paths_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "")


def configured(root: Path, target: str) -> Configuration:
    content = {"graphs": {"a": "./a.py:g"}, "greenroom": {"applications": {"llm": target}}}
    return parse_configuration(content, root)


def test_an_application_is_imported_from_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "its_model.py").write_text(
        "from ray import serve\n@serve.deployment\nclass Model:\n    pass\napp = Model.bind()\n"
    )
    assert list(applications.load(configured(tmp_path, "its_model:app"))) == ["llm"]


def test_a_folder_that_would_hide_modules_of_python_from_ray_is_refused(tmp_path: Path) -> None:
    (tmp_path / "email.py").touch()
    (tmp_path / "its_model.py").touch()
    with pytest.raises(ConfigurationError, match=r"has 'email', called like modules of Python"):
        applications.load(configured(tmp_path, "its_model:app"))


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import nothing_like_that", "ModuleNotFoundError: No module named 'nothing_like_that'"),
        ("raise SystemExit('no GPU')", "SystemExit: no GPU"),
        ("app = 7", "its_broken:app is int, not a Ray Serve application"),
        ("", "its_broken:app is NoneType, not a Ray Serve application"),
    ],
)
def test_an_application_that_cannot_be_imported_is_named_with_the_reason(
    source: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "its_broken", raising=False)
    (tmp_path / "its_broken.py").write_text(source)
    with pytest.raises(ConfigurationError, match=f"Application 'llm'.*{sentence}"):
        applications.load(configured(tmp_path, "its_broken:app"))


def test_proxies_that_are_late_are_no_reason_to_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve has deployed the application by then."""
    asked: list[str] = []

    def run(*_: object, name: str, **__: object) -> None:
        asked.append(name)
        raise TimeoutError("Proxies not available after 60s.")

    monkeypatch.setattr(applications.serve, "run", run)
    application = cast("applications.serve.Application", object())
    applications.run(application, name="greenroom", route_prefix="/")
    applications.deploy("model", application)
    assert asked == ["greenroom", "model"]
