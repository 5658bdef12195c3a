"""Fuzzing with a seed: mutants of bytes and of JSON, and a loop that wants success or one clear error of each.

A test gives a function from a `Random` to an input, and a function that reads the input. Case i of a test is the same
in every run; PROSPECT_FUZZ_CASES says how many there are (`make fuzz`), PROSPECT_FUZZ_FIRST the number of the first, so
that one that failed can be run alone.
"""

import copy
import os
import signal
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from pipeline.errors import ProspectError

CASES = int(os.environ.get("PROSPECT_FUZZ_CASES", "6"))  # of each test
FIRST = int(os.environ.get("PROSPECT_FUZZ_FIRST", "0"))
HANGS_S = 60  # a case that takes longer hangs: it takes milliseconds
T = TypeVar("T")

NUMBERS: tuple[Any, ...] = (
    0,
    1,
    -1,
    2,
    255,
    2**31 - 1,
    2**31,
    2**32,
    3 * 10**8,
    2**45,
    2**62,
    2**63,
    -(2**63),
    10**30,
    0.5,
    1e300,
)
TEXTS: tuple[Any, ...] = (
    "",
    " ",
    "S1->start",
    "S9->complete",
    "S1:completed",
    "../../x",
    "/etc/passwd",
    "\x00",
    "\x1b]0;x\x07",
    "é" * 50,
    "x" * 5000,
)
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"x": 1})


def fuzz(name: str, mutant: Callable[[Random], T], read: Callable[[T], object]) -> Counter[str]:
    """Read `mutant`s; returns how many were read and how many refused, by a ProspectError.

    Raises:
        AssertionError: anything else, with the number of the case.
    """
    outcomes: Counter[str] = Counter()
    before = signal.signal(signal.SIGALRM, _hangs)
    try:
        for case in range(FIRST, FIRST + CASES):
            made = mutant(Random(f"{name} {case}"))
            signal.alarm(HANGS_S)
            try:
                read(made)
                outcomes["read"] += 1
            except ProspectError as error:
                assert str(error), f"{name} case {case}: an error without a word"
                lines = str(error).splitlines()
                assert all(map(str.isprintable, lines)), f"{name} case {case}: {error!r} reaches a terminal"
                outcomes["refused"] += 1
            except BaseException as error:
                again = f"PROSPECT_FUZZ_FIRST={case} PROSPECT_FUZZ_CASES=1"
                raise AssertionError(f"{name} case {case} ({again}): {type(error).__name__}: {error}") from error
            finally:
                signal.alarm(0)
    finally:
        signal.signal(signal.SIGALRM, before)
    return outcomes


def mutated_bytes(data: bytes, random: Random) -> bytes:
    """A few bytes changed, cut out, repeated, or put in."""
    made = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 5))):
        place, length = random.randrange(len(made) + 1), random.choice((1, 1, 2, 4, 8, 100, 512))
        match random.randrange(6):
            case 0:
                made[place : place + length] = random.randbytes(length)
            case 1:
                made[place : place + length] = random.choice((b"\0", b"\xff", b"9")) * length
            case 2:
                del made[place : place + length]
            case 3:
                made[place:place] = made[place : place + length]
            case 4:
                made[place:place] = random.randbytes(length)
            case 5:
                del made[place:]
    return bytes(made)


def mutated_json(value: Any, random: Random) -> Any:
    """A copy with one or two places changed: another value, a key or an element gone or twice."""
    made = [copy.deepcopy(value)]
    for _ in range(random.choice((1, 1, 1, 2))):
        places = list(_places(made))
        inside, key = random.choice(places)
        found = inside[key]
        match random.randrange(7):
            case 0:
                inside[key] = copy.deepcopy(random.choice(OTHERS))  # a second change may go into it
            case 1 | 2 if isinstance(found, int | float):
                inside[key] = random.choice((found + 1, found - 1, -found, found * 10**6, str(found), *NUMBERS))
            case 1 | 2 if isinstance(found, str):
                inside[key] = random.choice((found[:-1], found + "x", found.upper(), len(found), *TEXTS))
            case 3 if inside is not made:
                del inside[key]
            case 4 if isinstance(inside, list) and inside is not made:
                inside.insert(key, copy.deepcopy(found))
            case 5 if isinstance(inside, list):
                other = random.randrange(len(inside))
                inside[key], inside[other] = inside[other], inside[key]
            case _:
                inside[key] = copy.deepcopy(random.choice([box[place] for box, place in places]))
    return made[0]


def _places(value: Any) -> Any:
    """Every place of a value that JSON can hold: what it is in, and its key there."""
    keys = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in keys:
        yield value, key
        yield from _places(inner)


def _hangs(signum: int, frame: object) -> None:
    raise TimeoutError(f"took more than {HANGS_S} s")
