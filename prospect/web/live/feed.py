"""Pictures of a browser's camera as a source of frames: frame k is what is seen at k / fps seconds.

A browser sends when it can, early or late. Each frame has a window around its time, from half a frame before to half
a frame after: the newest picture in it is the frame, at once when it is there; where none comes, what was seen last
is still what is seen. One picture waits at most, so that nothing queues up.
"""

import threading
import time
from collections.abc import Callable, Iterator

from pipeline.errors import ProspectError
from prospect.data.decode import decode_frame
from prospect.stream.endless import PATIENCE_S, SourceLost
from prospect.stream.sources import SourceFrame


class Feed:
    """One camera's pictures: `put` from any thread, iterated in one."""

    def __init__(
        self,
        fps: float,
        size: int,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
        broken: Callable[[str], None] = lambda told: None,
    ) -> None:
        """
        Args:
            size: pixels a side that the model sees; each picture has to decode to them.
            broken: hears of a picture that does not.
        """
        self._fps, self._size, self._patience_s, self._clock, self._broken = fps, size, patience_s, clock, broken
        self._news = threading.Condition()
        self._waiting: bytes | None = None
        self._ended = False
        self.repeated = 0  # frames without a picture of their own
        self.unused = 0  # pictures that a newer one took the place of, or that are none

    def put(self, picture: bytes) -> None:
        with self._news:
            self.unused += self._waiting is not None
            self._waiting = picture
            self._news.notify()

    def end(self) -> None:
        """Let the iteration end, as a source that is over."""
        with self._news:
            self._ended = True
            self._news.notify()

    def __iter__(self) -> Iterator[SourceFrame]:
        """
        Raises:
            SourceLost: nothing came for `patience_s`.
        """
        shown = self._next(self._clock() + self._patience_s)
        began = came = self._clock()
        number = 0
        while shown is not None:
            yield SourceFrame(shown, f"camera frame {number}")
            number += 1
            self._sleep_until(began + (number - 0.5) / self._fps)
            picture = self._next(began + (number + 0.5) / self._fps)
            if self._ended:
                return
            if picture is not None:
                shown, came = picture, self._clock()
            else:
                self.repeated += 1
                if self._clock() - came > self._patience_s:
                    break
        if not self._ended:
            raise SourceLost(f"the camera: no picture came for {self._patience_s:g} s; what was streamed is kept")

    def _next(self, until: float) -> bytes | None:
        """The picture that waits, or comes before `until`."""
        with self._news:
            while True:
                self._news.wait_for(lambda: self._waiting or self._ended, max(until - self._clock(), 0))
                picture, self._waiting = self._waiting, None
                if picture is None or self._ended:
                    return None
                try:
                    decode_frame(picture, self._size, "a picture of the camera")
                except ProspectError as error:
                    self.unused += 1
                    self._broken(str(error))
                else:
                    return picture

    def _sleep_until(self, until: float) -> None:
        with self._news:
            self._news.wait_for(lambda: self._ended, max(until - self._clock(), 0))
