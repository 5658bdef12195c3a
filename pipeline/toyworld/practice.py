"""The hard toy world in words: clips for practising its language without pictures.

In place of each frame's picture stand two words: what the hand holds, or that it holds nothing. Combinations of steps
are those of the training split alone.

`list_clip` is only the lookup: a list of steps, and a frame for each step that is started, in any order; there the one
before is completed, so that a start is also learned where the frame is further back. Nothing is said, and ids are
digits in any order (S7, S2, ...): where they are always S1, S2, S3 there is no need to read them, and a model that does
not read them is not rewarded for looking at the right line.
`whole_clip` is a clip as `make.py` writes it, every frame of it, but with more steps that follow one another at once:
the start of such a one is the rare case that a model forgets again. `captioned` gives frames of such clips as pictures,
with their words: what a published vision tower has learned from captions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from pipeline.annotations.clips import Clip, Step, Turn, prompt_text
from pipeline.annotations.dst import STATES
from pipeline.annotations.validate import check_clip
from pipeline.toyworld.make import DATASET, FPS, Conversation
from pipeline.toyworld.rendering import draw_light, render
from pipeline.toyworld.wording import GOALS, SYSTEM, VERBS, WORDINGS
from pipeline.toyworld.world import COLOURS, SHAPES, Episode, draw_combination, draw_episode

MOST_IDS = 9  # S1 to S9
AT_ONCE = 0.4  # of a whole clip's steps begin where the one before ends; .1 of a clip of the data set
EMPTY, OPEN = ("a", "moment"), ("in", "place")  # what a hand that holds nothing is told by
CAPTIONS = (EMPTY, OPEN, *product(COLOURS, SHAPES))  # all the words that a frame can have


@dataclass(frozen=True, slots=True)
class PracticeClip:
    clip: Clip
    words: tuple[tuple[str, str], ...]  # of each frame, in place of its picture


def list_clip(rng: np.random.Generator) -> PracticeClip:
    """Draw a list of steps, and in which order they are started."""
    colours = draw_combination(rng, "train")
    shapes = [SHAPES[rng.integers(len(SHAPES))] for _ in colours]
    verbs = [VERBS[rng.integers(len(VERBS))] for _ in colours]
    ids = [f"S{number + 1}" for number in rng.permutation(MOST_IDS)[: len(colours)]]
    steps = [Step(i, f"{v} the {c} {s}") for i, v, c, s in zip(ids, verbs, colours, shapes, strict=True)]
    order = rng.permutation(len(steps))
    turns: list[Turn] = []
    for frame, part in enumerate(order):
        if frame:
            turns.append(Turn("dst_update", f"{ids[order[frame - 1]]}->complete", frame, frame))
        turns.append(Turn("dst_update", f"{ids[part]}->start", frame, frame))
    clip = Clip(
        id="practice",
        dataset=DATASET,
        video_uid="practice",
        clip_idx=0,
        fps=FPS,
        start_frame=0,
        end_frame=len(steps) - 1,
        frames_file="none",
        steps=tuple(steps),
        initial_state=tuple(STATES[0] for _ in steps),
        turns=tuple(turns),
    )
    return PracticeClip(clip, tuple((colours[part], shapes[part]) for part in order))


def whole_clip(rng: np.random.Generator) -> PracticeClip:
    """Draw a clip of the training split; frames with two updates are more frequent."""
    episode, _ = draw_episode(rng, "train", hard=True, two_parts=False, at_once=AT_ONCE)
    last = len(episode.scenes) - 1
    raw = Conversation(rng, episode, hard=True).clip("practice", 0, 0, last)
    clip, problems = check_clip(raw, index=0, file="practice", dataset=DATASET, open_frames=None)
    assert clip is not None, problems
    return PracticeClip(clip, tuple(_words(episode, frame) for frame in range(last + 1)))


def captioned(rng: np.random.Generator) -> Iterator[tuple[bytes, tuple[str, str]]]:
    """Draw frames as JPEG, each with its words, without end; two thirds of them show a part in the hand, or one let
    go of."""
    while True:
        episode, _ = draw_episode(rng, "train", hard=True, two_parts=False)
        light = draw_light(rng, len(episode.scenes))
        words = [_words(episode, frame) for frame in range(len(episode.scenes))]
        told = [frame for frame, both in enumerate(words) if both != EMPTY]
        empty = [frame for frame, both in enumerate(words) if both == EMPTY]
        for frame in [*rng.permutation(told)[:12], *rng.permutation(empty)[:6]]:
            yield render(rng, episode, light, int(frame)), words[frame]


def _words(episode: Episode, frame: int) -> tuple[str, str]:
    scene = episode.scenes[frame]
    if scene.carried is None:
        return OPEN if scene.is_open else EMPTY
    part = episode.parts[scene.carried]
    return part.colour, part.shape


def texts(rng: np.random.Generator, clips: int = 300) -> Iterator[str]:
    """Give texts of the toy world for a tokenizer: prompts, updates, and every wording with every part's words."""
    for _ in range(clips):
        clip = list_clip(rng).clip
        yield f"System: {prompt_text(clip.steps, clip.state)}"
        for turn in clip.turns:
            yield f"DST: {turn.text}"
    yield from (f"System: {line}" for line in SYSTEM)
    for what, wordings in WORDINGS.items():
        role = "User" if what in ("open", "open_quiet", "ask_count", "remark") else "Assistant"
        for wording, colour, shape, (verb, goal) in product(wordings, COLOURS, SHAPES, zip(VERBS, GOALS, strict=True)):
            words = {"colour": colour, "shape": shape, "verb": verb, "lower": verb.lower(), "goal": goal}
            yield f"{role}: {wording.format(**words, done=1, all=4)}"
