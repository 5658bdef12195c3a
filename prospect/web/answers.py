"""What routes share: one error form, bodies and uploads within bounds, files inside their root, frames."""

import json
import re
import tempfile
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from pipeline.errors import ProspectError
from pipeline.io.frame_store import FrameFile
from prospect.pages.html import STATIC, Data, served_page
from prospect.pages.pictures import frame_jpeg
from prospect.web.guard import Guard
from prospect.web.server import Address

MOST_JSON = 4 << 20  # bytes of a request
MOST_HEIGHT = 2160  # pixels of a frame that is asked for
KEEP_S = 600  # how long a browser may keep a frame
PLAIN = re.compile(r"[^/\\\0]{1,200}")


class Conflict(ProspectError):
    """What a page asks for does not fit what is there now: it has to look again (409)."""


def make_app(routes: Sequence[BaseRoute], address: Address) -> ASGIApp:
    """Give an application of these routes and /static, behind the guard; errors are sentences in JSON."""
    app = Starlette(
        routes=[*routes, Mount("/static", StaticFiles(directory=STATIC))],
        exception_handlers={ProspectError: _told, HTTPException: _told, OSError: _told},
    )
    return Guard(app, address)


def page(title: str, entry: str, styles: Sequence[str] = (), data: Data = ()) -> Response:
    """Answer with a page (see `served_page`)."""
    return HTMLResponse(served_page(title, entry, styles, data))


def answer(value: Any) -> Response:
    """Answer with JSON, in ASCII: texts of data may hold lone surrogates, which have no UTF-8."""
    return Response(json.dumps(value, allow_nan=False), media_type="application/json")


async def body(request: Request) -> dict[str, Any]:
    """Read the JSON object that a page sends.

    Raises:
        ProspectError: it is none, or too long.
    """
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MOST_JSON:
            raise HTTPException(413, f"found a request of more than {MOST_JSON >> 20} MB, expected less")
    try:
        value = json.loads(bytes(data))
    except (ValueError, RecursionError):
        raise ProspectError("found a request that is no JSON; load the page again") from None
    if not isinstance(value, dict):
        raise ProspectError("found a request that is no JSON object; load the page again")
    return value


@asynccontextmanager
async def upload(request: Request, name: str, suffixes: Collection[str], most_bytes: int) -> AsyncIterator[Path]:
    """Receive a file into a folder of its own, which goes when the block ends.

    Args:
        name: that the user's file has; only its ending counts.
        suffixes: that it may have, e.g. (".mp4",).

    Raises:
        ProspectError: another type, too long, or it broke off.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in suffixes:
        raise ProspectError(f"{name}: found a file of type {suffix or 'none'}, expected one of {', '.join(suffixes)}")
    too_long = HTTPException(413, f"{name}: found more than {most_bytes / 1e9:.3g} GB, expected less")
    if int(request.headers.get("content-length", "0")) > most_bytes:
        raise too_long
    with tempfile.TemporaryDirectory(prefix="prospect-upload-") as folder:
        path, count = Path(folder) / f"upload{suffix}", 0
        with path.open("wb") as file:
            try:
                async for piece in request.stream():
                    count += len(piece)
                    if count > most_bytes:
                        raise too_long
                    await run_in_threadpool(file.write, piece)
            except ClientDisconnect:
                raise ProspectError(f"{name}: broke off after {count} bytes; nothing was kept") from None
        if not count:
            raise ProspectError(f"{name}: found an empty file, expected a video")
        yield path


def inside(root: Path, name: str) -> Path:
    """Give the file `name` under `root`, links followed.

    Raises:
        HTTPException: it is elsewhere, or not there (404: a page learns nothing of what lies outside).
    """
    try:
        path = (root / name).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        raise HTTPException(404, f"{name}: no such file") from None
    if not path.is_relative_to(root.resolve()):
        raise HTTPException(404, f"{name}: no such file")
    return path


def plain(request: Request, key: str) -> str:
    """Give a part of the path, or of the query, that is the plain name of something."""
    value = str(request.path_params.get(key, request.query_params.get(key, "")))
    if not PLAIN.fullmatch(value) or value in (".", ".."):
        raise HTTPException(404, f"{value[:80]!r}: no such {key}")
    return value


def number(request: Request, key: str, least: int = 0, most: int = 1 << 31) -> int | None:
    """Give a whole number of the path or the query; None: it is not given."""
    value = request.path_params.get(key, request.query_params.get(key))
    if value is None:
        return None
    try:
        found = int(value)
    except ValueError:
        found = least - 1
    if not least <= found <= most:
        raise HTTPException(400, f"{key}: found {str(value)[:20]!r}, expected a whole number {least}..{most}")
    return found


async def frame(request: Request, frames: FrameFile, key: str = "index") -> Response:
    """Answer with the frame that `key` of the path names, as a JPEG at its true aspect, `h` pixels high at most."""
    index, height = number(request, key), number(request, "h", 16, MOST_HEIGHT)
    assert index is not None
    jpeg = await run_in_threadpool(partial(frame_jpeg, frames, index, height))
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": f"private, max-age={KEEP_S}"})


async def _told(request: Request, error: Exception) -> Response:
    """Answer an error with its sentence; it never tells a path that the page did not name."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": str(error.detail)}, status_code=error.status_code)
    return JSONResponse({"error": str(error)}, status_code=409 if isinstance(error, Conflict) else 400)


def get(path: str, endpoint: Any) -> Route:
    return Route(path, endpoint, methods=["GET"])


def post(path: str, endpoint: Any) -> Route:
    return Route(path, endpoint, methods=["POST"])
