"""The pages that look on: one drives, the others watch. Each takes what is new at its own speed.

Nothing is queued for a page but a few sentences to it alone. A page that does not read keeps its own task waiting, and
is given up after a while; the model, and the other pages, do not notice.
"""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocket

from pipeline.errors import ProspectError
from pipeline.io.images import JPEG_START
from prospect.stream.task import Task, steps_in
from prospect.web.live.session import Session, Wish

MOST_PICTURE, MOST_TEXT = 2 << 20, 1 << 20  # bytes of a message
MOST_PAGES = 20
GAP_S = 0.04  # between two messages to a page
GONE_S = 20.0  # after which a page that reads nothing is given up
MOST_TOLD, MOST_TROUBLE = 20, 500  # sentences for one page; characters of one of its
WATCHES = "another tab drives; this one can only watch"


class Page:
    """One page that is open."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.key = secrets.token_urlsafe(12)  # of its uploads
        self.news = asyncio.Event()
        self.told: deque[str] = deque(maxlen=MOST_TOLD)  # sentences for it alone
        self.stream, self.frame, self.event, self.picture = -1, -1, 0, -1  # what it has seen

    def tell(self, text: str) -> None:
        if text not in self.told:
            self.told.append(text)
        self.news.set()


class Hub:
    """All pages of a session."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.pages: set[Page] = set()
        self.driver: Page | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        session.changed = self.changed
        self._uploads = TemporaryDirectory(prefix="prospect-live-")
        self.video: tuple[Path, str] | None = None  # the last upload, and its name

    def close(self) -> None:
        """End what goes on, and remove what was uploaded."""
        self.session.close()
        self._uploads.cleanup()

    def changed(self) -> None:
        """Let every page know that there is something new. From any thread."""
        if self._loop:
            with suppress(RuntimeError):  # the server has ended
                self._loop.call_soon_threadsafe(self._mark)

    def _mark(self) -> None:
        for page in self.pages:
            page.news.set()

    async def attend(self, socket: WebSocket) -> None:
        """Serve one page for as long as it is open."""
        await socket.accept()
        self._loop = asyncio.get_running_loop()
        page = Page(socket)
        if len(self.pages) >= MOST_PAGES:
            await socket.send_json({"alone": f"{MOST_PAGES} pages are open already; close one, then load this again"})
            await socket.close()
            return
        self.pages.add(page)
        if self.driver is None:
            self.driver = page
        self._mark()
        sending = asyncio.create_task(self._send(page))
        receiving = asyncio.create_task(self._receive(page))
        try:
            await asyncio.wait([sending, receiving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.pages.discard(page)
            if self.driver is page:
                self.driver = None
            self._mark()
            for task in (sending, receiving):
                task.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)

    def place_of(self, key: str, suffix: str) -> Path:
        """Give where an upload of the page that drives goes.

        Raises:
            ProspectError: another page's key, or a stream goes on.
        """
        if self.driver is None or key != self.driver.key:
            raise ProspectError(WATCHES)
        if self.session.phase != "ready":
            raise ProspectError("a stream goes on; stop it, then drop the video again")
        return Path(self._uploads.name) / f"video{suffix}"

    # --- to a page ------------------------------------------------------------------------------------------------

    async def _send(self, page: Page) -> None:
        while True:
            await page.news.wait()
            page.news.clear()
            async with asyncio.timeout(GONE_S):
                await self._show(page)
            await asyncio.sleep(GAP_S)

    async def _show(self, page: Page) -> None:
        view = self.session.view(page.stream, page.frame, page.event)
        if view["stream"] != page.stream:
            page.stream, page.frame, page.event, page.picture = view["stream"], -1, 0, -1
        if view["points"]:
            page.frame = view["points"][-1][0]
        if view["events"]:
            page.event = view["events"][-1]["id"]
        told = list(page.told)
        page.told.clear()
        role = "you" if page is self.driver else "another" if self.driver else "nobody"
        view |= {"drives": role, "alone": told, "watching": len(self.pages) - 1}
        if role == "you":
            view["key"] = page.key
        await page.socket.send_text(json.dumps(view, ensure_ascii=False, separators=(",", ":")))
        picture = None if role == "you" and view["is_camera"] else self.session.picture()
        if picture and picture[0] != page.picture:
            page.picture = picture[0]
            await page.socket.send_bytes(picture[1])

    # --- from a page ----------------------------------------------------------------------------------------------

    async def _receive(self, page: Page) -> None:
        while True:
            message = await page.socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                if picture := message.get("bytes"):
                    self._take_picture(page, picture)
                else:
                    await self._do(page, _asked(message.get("text") or ""))
            except (ProspectError, OSError) as error:
                page.tell(str(error))
                self.session.mention(str(error))

    def _take_picture(self, page: Page, picture: bytes) -> None:
        if page is not self.driver:
            raise ProspectError(WATCHES)
        if len(picture) > MOST_PICTURE:
            raise ProspectError(
                f"found a picture of {len(picture) / 1e6:.1f} MB, expected {MOST_PICTURE / 1e6:.1f} MB at most; it was "
                "left out"
            )
        if not picture.startswith(JPEG_START):
            raise ProspectError("found a picture that is no JPEG; it was left out")
        self.session.put(picture)

    async def _do(self, page: Page, asked: Mapping[str, Any]) -> None:
        session, what = self.session, asked.get("do")
        if what == "take":
            if self.driver not in (None, page):
                raise ProspectError("another tab drives; close it there first")
            self.driver = page
            self._mark()
            return
        if page is not self.driver:
            raise ProspectError(WATCHES)
        if what == "trouble":
            session.mention(str(asked.get("text"))[:MOST_TROUBLE])
        elif what == "start":
            await run_in_threadpool(session.start, self._wish(asked))
        elif what == "stop":
            session.stop()
        elif what == "say":
            session.say(asked.get("text"))
        elif what == "correct":
            session.correct(asked.get("step"), asked.get("state"))
        elif what == "threshold":
            session.set_threshold(str(asked.get("head")), asked.get("value"))
        else:
            raise ProspectError("found a message that this server does not know; load the page again")

    def _wish(self, asked: Mapping[str, Any]) -> Wish:
        text = str(asked.get("steps") or "")
        task = steps_in(text) if text.strip() else Task()
        is_recorded = asked.get("record") is True
        if asked.get("source") != "video":
            return Wish(task, is_recorded=is_recorded)
        if self.video is None:
            raise ProspectError("there is no video yet; drop one on the page")
        return Wish(task, *self.video, is_paced=asked.get("pace") is not False, is_recorded=is_recorded)


def _asked(text: str) -> dict[str, Any]:
    if len(text) > MOST_TEXT:
        raise ProspectError(f"found a message of more than {MOST_TEXT >> 20} MB, expected less")
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise ProspectError("found a message that is no JSON object; load the page again")
    return asked
