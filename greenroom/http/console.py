"""The console: a page that shows and operates the server, by its public API.

Its files are those of ``greenroom/console``, as they are: there is no build step. Every path below
``/console`` that names no file is answered with the page, which finds out itself what it shows.

    /console                        the page: asked for again each time, by its ETag
    /console/threads/...            the page, too
    /console/static/{digest}/...    a file, for ever: the digest is that of all files together

So a page never mixes files of two versions. All addresses in the page are relative, so it works
below any prefix, also of a proxy that the server knows nothing of. Nobody is authenticated for
these files, since they say nothing about records; the page asks for a key when the API wants one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.errors import NotFound
from greenroom.http.edge import dialect_of
from greenroom.http.mounting import path_within

router = APIRouter(tags=["Console"], include_in_schema=False)

FOLDER = Path(__file__).parent.parent / "console"
_PAGE = "index.html"
_PLACE = "{static}"
"""Where the page names the folder of its files."""

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""The kinds of files there are; others are not served."""

_ALWAYS = {
    # What a message of a model says can never become code: no inline script, no `eval`, no
    # `innerHTML` (trusted types), nothing from elsewhere, and no frame around the page.
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}
_FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asset:
    """A file of the console."""

    body: bytes
    media_type: str
    etag: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Assets:
    """The files of the console by path, and the digest of all of them."""

    files: Mapping[str, Asset]
    digest: str


def read_assets(folder: Path = FOLDER) -> Assets:
    """Returns the files of a folder. They are read again when one of them has changed."""
    found = sorted(each for each in folder.rglob("*") if each.suffix in _TYPES)
    return _read(folder, tuple((each, each.stat().st_mtime_ns) for each in found))


@lru_cache(maxsize=1)
def _read(folder: Path, found: tuple[tuple[Path, int], ...]) -> Assets:
    files: dict[str, Asset] = {}
    whole = hashlib.sha256()
    for path, _ in found:
        name, body = path.relative_to(folder).as_posix(), path.read_bytes()
        digest = hashlib.sha256(body).hexdigest()
        files[name] = Asset(body=body, media_type=_TYPES[path.suffix], etag=f'"{digest[:16]}"')
        whole.update(f"{name}\0{digest}\n".encode())
    return Assets(files=files, digest=whole.hexdigest()[:16])


@router.get("/console", summary="The console, a page for browsers")
@router.get("/console/{path:path}", summary="A file of the console, or the page")
async def console(request: Request, path: str = "") -> Response:
    assets = read_assets()
    if path.startswith("static/"):
        digest, _, name = path.removeprefix("static/").partition("/")
        if (asset := assets.files.get(name)) is None:
            raise NotFound(f"The console has no file {name[:80]!r}.")
        # A page of an older version gets today's file, and asks again the next time.
        caching = _FOR_EVER if digest == assets.digest else "no-cache"
        return _answer(request, asset, caching)
    return _answer(request, _page(assets, _up(request)), "no-cache")


def _page(assets: Assets, up: str) -> Asset:
    static = f"{up}console/static/{assets.digest}"
    body = assets.files[_PAGE].body.replace(_PLACE.encode(), static.encode())
    etag = hashlib.sha256(body).hexdigest()[:16]
    return Asset(body=body, media_type=_TYPES[".html"], etag=f'"{etag}"')


def _up(request: Request) -> str:
    """Returns the relative address of the folder that ``console`` is in, such as ``../``."""
    within = path_within(request.scope).removeprefix(dialect_of(request).prefix)
    return "../" * (within.count("/") - 1) or "./"


def _answer(request: Request, asset: Asset, caching: str) -> Response:
    headers = {**_ALWAYS, "cache-control": caching, "etag": asset.etag}
    known = request.headers.get("if-none-match", "")
    if asset.etag in (each.strip().removeprefix("W/") for each in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(asset.body, headers=headers, media_type=asset.media_type)
