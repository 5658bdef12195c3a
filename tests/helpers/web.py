"""Pages in a real browser: a server in a thread, Debian's Chromium, and no error on the console of any page."""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.waiting import wait_for

WIDE, NARROW = (1280, 900), (420, 860)
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--force-color-profile=srgb")


class Browser:
    """Chromium. Every page that it opens has to end without an error."""

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium

    @contextmanager
    def open(
        self,
        url: str,
        size: tuple[int, int] = WIDE,
        *,
        dark: bool = False,
        expected: Sequence[str] = (),
        **options: Any,
    ) -> Iterator[Any]:
        """A page of its own profile, at `url`.

        Args:
            expected: parts of the console errors that the test provokes (a refused request is one).
        """
        context = self._chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            has_touch=size == NARROW,
            **options,
        )
        try:
            page = context.new_page()
            page.set_default_timeout(30_000)
            errors: list[str] = []
            page.on("console", lambda told: errors.append(told.text) if told.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("requestfailed", lambda request: errors.append(f"{request.url}: {request.failure}"))
            page.goto(url)
            yield page
            left = [error for error in errors if not any(part in error for part in (*expected, "net::ERR_ABORTED"))]
            assert left == [], left
        finally:
            context.close()

    def look(
        self, url: str, folder: Path, name: str, ready: str = "main", prepare: Callable[[Any], None] | None = None
    ) -> None:
        """Write NAME-{wide,narrow}-{light,dark}.png of a page, for people to look at."""
        for width, size in (("wide", WIDE), ("narrow", NARROW)):
            for dark in (False, True):
                with self.open(url, size, dark=dark) as page:
                    page.wait_for_selector(ready, state="attached")
                    if prepare:
                        prepare(page)
                    page.wait_for_timeout(300)
                    page.screenshot(path=folder / f"{name}-{width}-{'dark' if dark else 'light'}.png", full_page=True)


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """Start Debian's Chromium, with more arguments where a test needs them (a fake camera)."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here (pip install playwright)")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=[*ARGUMENTS, *arguments])
        try:
            yield Browser(running)
        finally:
            running.close()


@contextmanager
def served(make: Callable[[Any], Any]) -> Iterator[str]:
    """Serve what `make(address)` gives, on a free port; gives the address to open, with a slash at its end."""
    from prospect.web.server import bind, make_server

    listening, address = bind("127.0.0.1", 0)
    server = make_server(make(address))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started or not thread.is_alive())
        assert server.started, "the server ended before it began"
        yield address.url
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
        assert not thread.is_alive(), "the server does not end"


def overflow(page: Any) -> int:
    """By how many pixels a page is wider than its window; a page never scrolls sideways."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
