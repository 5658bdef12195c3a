"""The newest frame of a source that runs faster than the model: a thread reads it, and whoever asks gets the last frame
that came, with its number, so that a gap tells how many were dropped. Nothing is read twice, nothing queues up.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Arrival(Generic[Item]):
    """An item, when it was there."""

    number: int  # in the source, from 0
    item: Item
    there_s: float  # on the clock


def newest(items: Iterable[Item], clock: Callable[[], float] = time.monotonic) -> Iterator[Arrival[Item]]:
    """Give the newest item at each asking, the last one too; the source's error comes after what it gave before."""
    news = threading.Condition()
    slot: deque[Arrival[Item]] = deque(maxlen=1)
    ended: list[Exception | None] = []
    stop = threading.Event()

    def read() -> None:
        error: Exception | None = None
        try:
            for number, item in enumerate(items):
                if stop.is_set():
                    return
                with news:
                    slot.append(Arrival(number, item, clock()))
                    news.notify()
        except Exception as raised:  # raised again where the next item is asked for
            error = raised
        with news:
            ended.append(error)
            news.notify()

    threading.Thread(target=read, daemon=True).start()
    try:
        while True:
            with news:
                news.wait_for(lambda: slot or ended)
                if not slot:
                    break
                arrival = slot.popleft()
            yield arrival
    finally:
        stop.set()
    if ended[0]:
        raise ended[0]


def paced(
    items: Iterable[Item], fps: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[Item]:
    """Give item i no sooner than i / fps seconds after the first."""
    began = 0.0
    for number, item in enumerate(items):
        if number == 0:
            began = clock()
        elif (wait := began + number / fps - clock()) > 0:
            sleep(wait)
        yield item
