"""Storyboards and contact sheets: which frames, what is said of them, and at which shape they are drawn."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.annotations.clips import Turn
from prospect.pages.lettering import Lettering
from prospect.pages.sheet import FRAME, MARGIN, TILE, draw_sheet
from prospect.pages.storyboard import Event, Shot, evenly, storyboard, updates_in_words
from tests.helpers.fakes import make_clip

LONG_ID = "assembly_nusar-2021_action_both_9011-a01_9011_user_id_2021-02-01_153724__HMC_84346135_mono10bit"
CLIP = make_clip(
    [
        Turn("system", "Be kind.", None, None),
        Turn("user", "Hello", 0, 2),
        Turn("dst_update", "S1->complete, S2->start", 3, 5),
        Turn("assistant", "Well done.", 3, 5),
        Turn("assistant", "Go on.", 8, 17),
    ],
    frames=(0, 19),
)


def test_a_storyboard_has_every_event_in_words_and_frames_evenly_between():
    shots = storyboard(CLIP, most=6)
    assert [shot.frame for shot in shots] == [2, 3, 5, 10, 16, 17]
    assert [shot.time_s for shot in shots] == [1.0, 1.5, 2.5, 5.0, 8.0, 8.5], "two frames a second"
    assert shots[2].events == (
        Event("update", "S1 complete: do S1; S2 start: do S2"),
        Event("speak", "Well done."),
    )
    assert shots[0].events == (Event("user", "Hello"),) and shots[5].events == (Event("speak", "Go on."),)
    assert [shot.frame for shot in storyboard(CLIP, most=99)] == list(range(20))
    assert [shot.frame for shot in storyboard(CLIP, most=2)] == [2, 17], "of three events those of even stretches"


def test_updates_are_told_with_the_names_of_their_steps():
    assert updates_in_words("S3->reset", {"S3": "Place it"}) == "S3 reset: Place it"
    assert evenly(range(6), 2) == [1, 4] and evenly(range(2), 6) == [0, 1]


def circle(side: int, shape: tuple[int, int]) -> bytes:
    """A white disc, half as high as a picture of this shape, which is stored as a square of `side`."""
    y, x = np.mgrid[:side, :side] + 0.5
    distance = np.hypot((y / side - 0.5) * shape[0], (x / side - 0.5) * shape[1])
    out = io.BytesIO()
    Image.fromarray(np.where(distance < shape[0] / 4, 255, 0).astype(np.uint8)).convert("RGB").save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("shape", [(1080, 1920), (720, 720), (640, 480)])
def test_frames_stored_as_squares_are_drawn_at_the_video_s_shape(shape):
    shots = [Shot(0, 0.0, ())]
    sheet, note = draw_sheet("id", [], shots, lambda frame: circle(384, shape), shape)
    assert note == ""
    pixels = np.asarray(sheet.convert("L"), int)
    picture = pixels[:, MARGIN : MARGIN + TILE]
    rows = np.flatnonzero((picture < 40).sum(1) > 40)  # of the black picture
    inside = picture[rows[0] : rows[-1] + 1]
    columns = np.flatnonzero((inside < 40).sum(0) > 20)
    height, width = len(inside), columns[-1] - columns[0] + 1
    assert abs(width / height - shape[1] / shape[0]) < 0.03
    disc = inside[:, columns[0] : columns[-1] + 1] > 128
    tall, wide = disc.any(1).sum(), disc.any(0).sum()
    assert abs(tall - wide) <= 2 and abs(tall - height / 2) <= 2


def test_a_long_id_is_wrapped_not_cut():
    def head(title):
        sheet, _ = draw_sheet(title, ["about"], [Shot(0, 0.0, ())], lambda frame: circle(64, (1, 1)), None)
        return np.asarray(sheet.convert("L"), int)

    short, long = head("v1"), head(f"{LONG_ID}-c000-05f579e1-0006")
    assert len(LONG_ID) > 90 and long.shape[1] == short.shape[1] and long.shape[0] > short.shape[0]
    assert (long[:, -MARGIN:] == 255).all(), "nothing runs over the margin"
    lines = Lettering(17).wrap(f"{LONG_ID}-c000-05f579e1-0006", short.shape[1] - 2 * MARGIN)
    assert "".join(lines) == f"{LONG_ID}-c000-05f579e1-0006" and len(lines) == 2


def test_events_are_framed_in_their_colours_and_named():
    shots = [Shot(0, 0.0, ()), Shot(5, 2.5, (Event("speak", "Go on."), Event("update", "S1 start: do S1")))]
    shots += [Shot(8, 75.0, (Event("speak", "Go on."),))]
    sheet, _ = draw_sheet("id", [], shots, lambda frame: circle(64, (1, 1)), None)
    pixels = np.asarray(sheet)
    step = TILE + MARGIN
    update, speak = (0xB8, 0x42, 0x0C), (0x24, 0x56, 0xD6)

    def framed(place, colour):
        left = pixels[:, MARGIN + place * step : MARGIN + place * step + FRAME]
        return (left == colour).all((1, 2)).sum()

    assert framed(1, update) == framed(2, speak) == 200 + 2 * FRAME and framed(0, update) == framed(1, speak) == 0
