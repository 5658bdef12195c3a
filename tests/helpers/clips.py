"""Clips: of real size, and any that hypothesis thinks of."""

from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

from pipeline.annotations.clips import Clip, Progress, Turn
from pipeline.annotations.dst import Update, apply_updates, format_updates, legal_updates
from pipeline.annotations.json_files import read_raw_clips
from pipeline.annotations.validate import check_clip
from tests.helpers.fakes import make_clip
from tests.helpers.places import DATA, REAL

ASSEMBLY = DATA / "assembly" / "train_training.json"  # our own clip, at the frames of a real one
ASSEMBLIES = [ASSEMBLY, *REAL.glob("assembly101/train_training.json")]  # and the real one, where it is


def clip_in(path: Path) -> Clip:
    """The one clip of an annotation file."""
    (raw,) = read_raw_clips(path)
    clip, problems = check_clip(raw, index=0, file="", dataset="assembly", open_frames=None)
    assert problems == [] and clip is not None
    return clip


@st.composite
def clips(draw: Callable) -> Clip:
    """Any legal clip: overlapping ranges, several turns at a frame, system turns anywhere."""
    first = draw(st.integers(0, 5))
    last = first + draw(st.integers(0, 25))
    num_steps = draw(st.integers(0, 3))
    ids = [f"S{i + 1}" for i in range(num_steps)]
    initial = draw(
        st.lists(st.sampled_from(["not_started", "in_progress", "completed"]), min_size=num_steps, max_size=num_steps)
    )
    state = dict(zip(ids, initial, strict=True))
    ends = sorted(draw(st.lists(st.integers(first, last), max_size=8)))
    turns = []
    for end in ends:
        start = max(first, end - draw(st.integers(0, 6)))
        role = draw(st.sampled_from(["user", "system", "assistant", "dst_update"]))
        text = draw(st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)) + "x"
        if role == "dst_update":
            legal = legal_updates(ids, state)
            if not legal:
                continue
            updates: list[Update] = [draw(st.sampled_from(legal))]
            state = apply_updates(state, updates)
            text = format_updates(updates)
        turns.append(Turn(role, text, start, end))
    outside = draw(
        st.sampled_from([(), (Turn("system", "s", None, None),), (Turn("system", "s", last + 1, last + 2),)])
    )
    told = sorted(draw(st.lists(st.integers(first - 1, last), max_size=3)))
    words = draw(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=6), min_size=4, max_size=4))
    progress = tuple(Progress(frame, text) for frame, text in zip(told, words, strict=False))
    more = {"goal": words[3], "progress": progress}
    return make_clip([*turns, *outside], frames=(first, last), steps=num_steps, initial=tuple(initial), **more)
