"""The console's files: which address gives what, how long it is kept, and what a page may do."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx
import pytest

from greenroom.core.edge_rules import HttpRules
from greenroom.http import console
from greenroom.http.app import create_app
from greenroom.http.settings import HttpSettings
from tests.http.edge_doubles import GRAPHS, MemoryRecords, MemoryRuntime

PLACES = ("/console", "/console/", "/console/threads", "/console/threads/1/runs/2")


class References(HTMLParser):
    """The addresses that a page loads, and whether it has code of its own."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if (address := given.get("href") or given.get("src")) is not None:
            self.found.append(address)
        self._in_script = tag in ("script", "style") and "src" not in given
        self.inline += [name for name in given if name.startswith("on") or name == "style"]

    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self.inline.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False


def client_of(
    rules: HttpRules | None = None, settings: HttpSettings | None = None
) -> httpx.AsyncClient:
    records = MemoryRecords()
    app = create_app(
        runtime=MemoryRuntime(records),
        records=records,
        graphs=GRAPHS,
        rules=rules,
        settings=settings,
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://edge")


@pytest.mark.parametrize("mount", ["", "/api"])
@pytest.mark.parametrize("place", PLACES)
async def test_every_place_is_the_page_and_loads_its_files_from_there(client, mount, place):
    answer = await client.get(f"{mount}{place}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = References(answer.text)
    assert len(page.found) >= 4
    assert page.inline == []
    for address in page.found:
        url = urljoin(f"http://edge{mount}{place}", address)
        assert url.startswith(f"http://edge{mount}/console/static/"), url
        assert (await client.get(url)).status_code == 200, url


async def test_below_a_prefix_the_page_names_files_below_it():
    async with client_of(HttpRules(mount_prefix="/my/agents")) as client:
        for place in ("/my/agents/console", "/my/agents/api/console/threads/1"):
            answer = await client.get(place)
            for address in References(answer.text).found:
                url = urljoin(f"http://edge{place}", address)
                assert url.startswith("http://edge/my/agents/"), url
                assert (await client.get(url)).status_code == 200, url
        assert (await client.get("/console")).status_code == 404


async def test_files_are_kept_for_ever_and_the_page_is_asked_for_again(client):
    page = await client.get("/console")
    assert page.headers["cache-control"] == "no-cache"
    script = next(each for each in References(page.text).found if each.endswith("app.js"))
    file = await client.get(urljoin("http://edge/console", script))
    assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert file.headers["content-type"] == "text/javascript; charset=utf-8"
    for answer, address in ((page, "/console"), (file, file.url)):
        known = {"if-none-match": f'W/"other", {answer.headers["etag"]}'}
        again = await client.get(address, headers=known)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == answer.headers["etag"]


async def test_a_page_of_an_older_version_gets_the_file_of_today_and_keeps_it_not(client):
    answer = await client.get("/console/static/0123456789abcdef/app.js")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "name",
    ["nope.js", "", "../console.py", "%2e%2e/console.py", "/etc/passwd", "index.html/../../app.py"],
)
async def test_only_files_of_the_console_are_served(client, name):
    answer = await client.get(f"/console/static/0/{name}")
    assert answer.status_code == 404 or answer.headers["content-type"].startswith("text/html")
    assert b"import annotations" not in answer.content
    assert b"root:" not in answer.content


async def test_a_page_may_load_nothing_from_elsewhere_and_no_inline_code(client):
    for path in ("/console", "/console/static/0/app.js", "/console/static/0/icon.svg"):
        headers = (await client.get(path)).headers
        rules = dict(
            (part.partition(" ")[0], part.partition(" ")[2])
            for part in headers["content-security-policy"].split("; ")
        )
        assert rules["default-src"] == "'none'"
        assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
        assert rules["frame-ancestors"] == "'none'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


async def test_a_head_of_the_console_is_a_get_without_its_body(client):
    answer, whole = await client.head("/console"), await client.get("/console")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["etag"] == whole.headers["etag"]


@pytest.mark.parametrize(
    ("rules", "settings"),
    [
        (None, HttpSettings(console=False)),
        (HttpRules(disabled=frozenset({"ui"})), HttpSettings(console=False)),
    ],
    ids=["setting", "http.disable_ui"],
)
async def test_a_console_that_is_switched_off_is_not_there_and_info_says_so(rules, settings):
    async with client_of(rules, settings) as client:
        assert (await client.get("/console")).status_code == 404
        assert (await client.get("/console/static/0/app.js")).status_code == 404
        assert (await client.get("/info")).json()["flags"]["console"] is False
    async with client_of() as client:
        assert (await client.get("/info")).json()["flags"]["console"] is True


def test_no_file_makes_markup_of_text_or_names_another_server():
    for name, asset in console.read_assets().files.items():
        text = asset.body.decode()
        if name.endswith(".js"):
            assert not re.search(
                r"\.(inner|outer)HTML\b|insertAdjacentHTML|document\.write|\beval\(", text
            ), name
        addresses = {address.lower() for address in re.findall(r"https?://[\w.-]+\.\w+", text)}
        assert addresses <= {"http://www.w3.org"}, name


def test_a_changed_file_has_another_address(tmp_path):
    (tmp_path / "app.js").write_text("1")
    before = console.read_assets(tmp_path)
    assert console.read_assets(tmp_path) is before
    (tmp_path / "app.js").write_text("2")
    (tmp_path / "notes.txt").write_text("not served")
    after = console.read_assets(tmp_path)
    assert after.digest != before.digest
    assert list(after.files) == ["app.js"]
