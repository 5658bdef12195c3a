"""The live page in a Chromium that has no camera."""

import pytest

from tests.helpers.live import live, live_session, plain
from tests.helpers.streams import with_bias
from tests.helpers.waiting import wait_for

pytestmark = pytest.mark.slow


def test_a_camera_that_is_not_there_or_not_allowed_is_a_sentence(browser, model, tmp_path):
    session, terminal = live_session(plain(with_bias(model, -9, -9)), tmp_path)
    with live(session) as url, browser.open(url) as page:
        page.wait_for_selector("#status:text-is('Ready')")
        page.click("#start")
        page.wait_for_selector(".notice.wrong")
        told = page.inner_text(".notice.wrong span")
        assert told in (
            "There is no camera here. Plug one in, then start again; or drop a video.",
            "The browser may not use the camera. Allow it beside the address, then start again; or drop a video.",
        )
        wait_for(lambda: f"page: {told}" in terminal)
        assert page.inner_text("#status") == "Ready" and page.is_enabled("#start")
