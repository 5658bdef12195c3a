"""What people change while a stream goes on: thresholds, and states that they know better.

It is asked for in any thread, and done in the model's, before the next frame (`play`'s `steer`).
"""

import threading
from collections.abc import Mapping
from dataclasses import replace

from pipeline.annotations.dst import STATES, State
from pipeline.errors import ProspectError
from prospect.stream.player import Steered
from prospect.stream.streamer import Streamer


class Steering:
    """Of one stream; its steps are those that the streamer was, or is to be, started with."""

    def __init__(self, streamer: Streamer, steps: Mapping[str, str]) -> None:
        """`steps`: id -> name."""
        self._streamer, self._steps = streamer, dict(steps)
        self._lock = threading.Lock()
        self._corrected: dict[str, State] = {}
        self._thresholds: dict[str, float] = {}

    @property
    def waiting(self) -> dict[str, State]:
        """The states that wait for the next frame."""
        with self._lock:
            return dict(self._corrected)

    def correct(self, step: object, state: object) -> None:
        """Set the state of a step.

        Raises:
            ProspectError: no such step or state, or the model tracks none.
        """
        if self._streamer.settings.memory != "dst":
            raise ProspectError("this checkpoint tracks no state, so there is none to correct: it only speaks")
        wanted = next((one for one in STATES if one == state), None)
        if not isinstance(step, str) or step not in self._steps or wanted is None:
            raise ProspectError(
                f"found step {step!r}, state {state!r}; expected a step of the task, {', '.join(STATES)}"
            )
        with self._lock:
            self._corrected[step] = wanted

    def set_threshold(self, head: str, value: object) -> float:
        """Let a head (`update` or `speak`) fire at another probability.

        Raises:
            ProspectError: no number from 0 to 1.
        """
        if type(value) not in (int, float) or not 0 <= value <= 1 or head not in ("update", "speak"):  # type: ignore[operator]
            raise ProspectError(f"threshold of {head!r}: found {value!r}, expected a number from 0 to 1")
        with self._lock:
            self._thresholds[head] = float(value)  # type: ignore[arg-type]
        return float(value)  # type: ignore[arg-type]

    def apply(self) -> Steered:
        """Change the streamer; gives what was changed. In the model's thread."""
        with self._lock:
            corrected, thresholds = self._corrected, self._thresholds
            self._corrected, self._thresholds = {}, {}
        streamer = self._streamer
        corrected = {step: state for step, state in corrected.items() if streamer.state[step] != state}
        for step, state in corrected.items():
            streamer.correct(step, state)
        changed = {
            head: value
            for head, value in thresholds.items()
            if getattr(streamer.settings, f"{head}_threshold") != value
        }
        settings = streamer.settings
        streamer.settings = replace(
            settings,
            update_threshold=changed.get("update", settings.update_threshold),
            speak_threshold=changed.get("speak", settings.speak_threshold),
        )
        notes = [f"{head} fires at {value:g} from here on" for head, value in changed.items()]
        notes += [f"corrected: {step} is {state.replace('_', ' ')}" for step, state in corrected.items()]
        return Steered(corrected, tuple(notes))
