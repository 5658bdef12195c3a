"""What is said in the toy world. Each utterance has several wordings; none names a step that was not started yet."""

from collections.abc import Mapping

import numpy as np

VERBS = ("Attach", "Insert", "Mount", "Place")
GOALS = ("toy truck", "toy crane", "toy robot", "toy train")
SYSTEM = (
    "You are a helpful and proactive assistant.",
    "Watch the user and help at the right moment.",
    "Guide the user through the assembly.",
)
WORDINGS: Mapping[str, tuple[str, ...]] = {
    "open": ("I want to build a {goal}.", "Help me build a {goal}.", "Today I am building a {goal}."),
    "open_quiet": (
        "I want to build a {goal}. Speak only when a step is done.",
        "Help me build a {goal}, quietly please.",
    ),
    "greet": ("Great! Take any part you like.", "Sure, start with any part.", "Okay, begin with the part you want."),
    "start": (
        "You have the {colour} {shape}. {verb} it on the plate.",
        "Good, now {lower} the {colour} {shape}.",
        "That is the {colour} {shape}, {lower} it next.",
    ),
    "complete": (
        "Well done, the {colour} {shape} is in place.",
        "The {colour} {shape} fits. Go on.",
        "Nice, the {colour} {shape} is done.",
        "Good work on the {colour} {shape}.",
    ),
    "finish": (
        "That was the last part. The {goal} is ready!",
        "All done, enjoy your {goal}!",
        "The {goal} is complete!",
    ),
    "ask_count": ("How many steps are done?", "How far am I?"),
    "tell_count": ("{done} of {all} steps are done.", "You finished {done} of {all} steps."),
    "remark": ("Just a moment.", "Let me see.", "Hm, I have to think."),
}


def say(rng: np.random.Generator, what: str, **words: object) -> str:
    """Choose one of the wordings of `what`, filled in."""
    wordings = WORDINGS[what]
    return wordings[rng.integers(len(wordings))].format(**words)
