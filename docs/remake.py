"""`make docs`: what in docs/ is made by commands, made again: settings.md, and the pictures of the demo's run.

    python docs/remake.py [--settings]

The pictures need `make demo` before them, playwright, and Chromium (Debian: apt-get install chromium).
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.annotations.validate import valid_clips
from pipeline.io.frame_store import open_frames
from pipeline.shards.reader import find_sample, shards_at
from prospect.config_file import find_config, load_config
from prospect.looking.shard import contact_sheet, frame_roots, storyboard_sheet
from prospect.looking.token_view import drawn_at_first, sequence_of, token_data, write_token_page
from prospect.setting_list import settings_markdown
from prospect.setup import make_blueprint
from prospect.stream.load import NO_OVERRIDES
from prospect.stream.task import Task
from prospect.web.browse.library import open_library
from prospect.web.browse.paths import recognize
from prospect.web.browse.shell import make_browse, sections
from prospect.web.browse.tokens import TokenViews
from prospect.web.live.open import open_session
from prospect.web.review.disagreements import Predictions
from prospect.web.review.documents import Documents
from prospect.web.review.routes import make_review
from tests.helpers.live import film, live
from tests.helpers.web import chromium, served

DOCS = Path(__file__).parent
SAMPLE = "2"  # an update of the first clip
REVIEWED = 3  # of the test clips


def main() -> None:
    (DOCS / "settings.md").write_text(settings_markdown(), encoding="utf-8")
    if "--settings" in sys.argv:
        return
    report = Path("runs/toy-hard/evaluation/test/report.html")
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if not report.is_file() or browser is None:
        missing = "runs/toy-hard/evaluation (make demo)" if browser else "chromium (apt-get install chromium)"
        sys.exit(f"docs/remake.py: settings.md is made; the pictures need {missing}")
    shards = shards_at("shards/hard/toyworld/train")
    sample, images, clip = find_sample(shards, SAMPLE)
    roots = frame_roots(shards[0], None, Path("data/toy-hard"))
    contact_sheet(sample, images, DOCS / "sample.png", roots)
    storyboard_sheet(clip, shards, DOCS / "storyboard.png", roots, most=15)
    for name in ("sample.png", "storyboard.png"):
        with Image.open(DOCS / name) as sheet:
            sheet.quantize(256, Image.Quantize.MAXCOVERAGE, 2, dither=Image.Dither.NONE).save(
                DOCS / name, optimize=True
            )
    config = load_config(find_config("toy-hard"))
    blueprint = make_blueprint(config)
    laid = sequence_of(sample, clip, blueprint.tokens, config.data)
    token_picture(DOCS / "tokens.png", sample.key, token_data(laid, blueprint, drawn_at_first(config, clip[0].clip.id)))
    report_picture(DOCS / "report.png", report)
    review_picture(DOCS / "review.png", Path("data/toy-hard"), report.parent)
    browse_picture(DOCS / "browse.png", [Path("data/toy-hard"), Path("shards/hard"), report.parents[2]])
    live_picture(DOCS / "live.png", "runs/toy-hard", Path("data/toy-hard"))


def token_picture(out: Path, key: str, data: dict[str, Any]) -> None:
    """Take a picture of the beginning of a sample's tokens."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "tokens.html"
        write_token_page(path, key, data)
        with chromium() as browser, browser.open(path.as_uri(), (1100, 640)) as page:
            page.wait_for_selector(".tokens-block")
            page.screenshot(path=out)


def report_picture(out: Path, report: Path, clip: str = "") -> None:
    """Take a picture of a report: of a clip, or of the worst one, with which it opens; at its first mistake."""
    where = report.absolute().as_uri() + (f"#clip={clip}" if clip else "")
    with chromium() as browser, browser.open(where, (1280, 1160)) as page:
        page.wait_for_selector(".item .bar")
        page.keyboard.press("n")
        page.wait_for_selector(".item.chosen")
        page.mouse.move(0, 0)
        page.wait_for_timeout(300)
        page.screenshot(path=out)


def review_picture(out: Path, data_root: Path, evaluation: Path | None) -> None:
    """Take a picture of the review page, at the worst disagreement where there are predictions."""
    documents = Documents(data_root, "toyworld")
    found = Predictions(evaluation) if evaluation else None
    where = f"#toyworld/test_training.json/{REVIEWED}"
    with (
        chromium() as browser,
        served(lambda address: make_review(documents, found, address)) as url,
        browser.open(url + where, (1280, 1000)) as page,
    ):
        page.wait_for_selector(".item .bar")
        page.keyboard.press("n" if found else "ArrowDown")
        page.wait_for_selector(".chosen-panel")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=out)


def browse_picture(out: Path, paths: list[Path]) -> None:
    """Take a picture of the cards of test clips, with the mistakes of a run where one is among the paths."""
    given = recognize(paths)
    listed = sections(open_library(given), TokenViews(given))
    with (
        chromium() as browser,
        served(lambda address: make_browse(listed, address)) as url,
        browser.open(f"{url}#clips?of=toyworld%2Ftest", (1280, 900)) as page,
    ):
        page.wait_for_selector(".card")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=out)


def live_picture(out: Path, checkpoint: str, data_root: Path) -> None:
    """Take a picture of the live page with a test clip as its camera, in the middle of its task."""
    root = data_root / "toyworld"
    clips = valid_clips(root / "test_training.json", lambda name: open_frames(root / name))
    clip = next(clip for place, clip in clips if place == REVIEWED)
    frames = open_frames(root / clip.frames_file)
    with tempfile.TemporaryDirectory() as scratch:
        jpegs = [frames.read(number) for number in range(clip.start_frame, clip.end_frame + 1)]
        camera = film(Path(scratch) / "camera.y4m", jpegs, int(clip.fps), 480, 480)
        flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
        session = open_session(checkpoint, NO_OVERRIDES, None, Path(scratch), print)
        with (
            chromium(*flags, f"--use-file-for-fake-video-capture={camera}") as browser,
            live(session, Task(clip.steps, clip.state)) as url,
            browser.open(url, (1280, 1000)) as page,
        ):
            page.wait_for_selector("#status:text-is('Ready')")
            page.click("#start")
            page.wait_for_selector(".step[data-state=completed]", timeout=120_000)
            page.wait_for_timeout(1000)
            page.screenshot(path=out)
            page.click("#stop")
            page.wait_for_selector("#status:text-is('Ready')")


if __name__ == "__main__":
    main()
