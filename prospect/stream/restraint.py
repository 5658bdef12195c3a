"""What keeps a model from speaking too often, or twice the same. Both are off unless they are asked for."""

from collections import deque


class Restraint:
    """Of one stream: what was said last, and when."""

    def __init__(self, least_gap_s: float, no_repeat: int, fps: float) -> None:
        """
        Args:
            least_gap_s: seconds between the frames of two utterances, at least; 0: they may share one.
            no_repeat: of how many utterances none is said again; 0: any may be.
            fps: frames a second of the stream.
        """
        self._least_gap_s, self._fps = least_gap_s, fps
        self._last_frame: int | None = None
        self._said: deque[str] = deque(maxlen=no_repeat)

    def may_speak(self, frame: int) -> bool:
        """Whether the last utterance is long enough ago."""
        return self._last_frame is None or (frame - self._last_frame) / self._fps >= self._least_gap_s

    def is_repeat(self, text: str) -> bool:
        """Whether one of the last utterances was this very text."""
        return text in self._said

    def said(self, frame: int, text: str) -> None:
        """Note an utterance, whoever called for it."""
        self._last_frame = frame
        self._said.append(text)
