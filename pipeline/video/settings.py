"""How a video's frames are made."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    fps: float = 2.0
    size: int = 384  # pixels; frames are squares, as the model takes them
    quality: int = 90  # of the JPEGs
    turn: int = 0  # degrees, counter-clockwise, of the upright picture: 0, 90, 180 or 270
    crop: bool = False  # to the square in the middle; else the whole picture is squeezed into a square
    max_gap_s: float = 300.0  # without a new picture, before a video counts as damaged
    allow_short: bool = False  # take a video that ends before the end that it states, as far as it goes
