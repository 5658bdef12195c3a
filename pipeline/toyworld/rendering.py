"""A frame of the toy world: work table, parts, assembly and hand, under changing light, as 64 x 64 JPEG."""

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pipeline.toyworld.world import CENTRE, Episode, Part, Point, Scene, slot_in_assembly, tray

SIZE = 64  # pixels a side
SCALE = 2  # drawn larger, then averaged
QUALITY = 85
SMALL, LARGE = 4.5, 11.0  # radius of a part on the table and in the hand, pixels
RGB = {
    "red": (205, 40, 40),
    "green": (40, 160, 60),
    "blue": (45, 80, 210),
    "yellow": (235, 210, 50),
    "purple": (140, 60, 170),
    "orange": (240, 130, 30),
}
SKIN, SLEEVE, PLATE = (228, 186, 150), (70, 90, 110), (120, 122, 126)


@dataclass(frozen=True, slots=True)
class Light:
    """Of one video: the table's texture, and how its light drifts."""

    table: npt.NDArray[np.float32]  # (SIZE, SIZE, 3)
    level: npt.NDArray[np.float32]  # (frames,) brightness
    tilt: npt.NDArray[np.float32]  # (frames, 2) gradient over x and y


def draw_light(rng: np.random.Generator, frames: int) -> Light:
    wood = np.array([150, 118, 88]) + rng.normal(0, 12, 3)
    grain = rng.normal(0, 6, (SIZE, 1, 1)) + rng.normal(0, 4, (SIZE, SIZE, 1))

    def drift(scale: float, limit: float, *shape: int) -> npt.NDArray[np.float32]:
        start = rng.uniform(-limit, limit, (1, *shape))
        return np.clip(start + rng.normal(0, scale, (frames, *shape)).cumsum(0), -limit, limit).astype(np.float32)

    return Light((wood + grain).astype(np.float32), 1 + drift(0.02, 0.2), drift(0.015, 0.15, 2))


def render(rng: np.random.Generator, episode: Episode, light: Light, frame: int) -> bytes:
    """Draw one frame as JPEG bytes."""
    scene = episode.scenes[frame]
    canvas = Image.fromarray(np.clip(light.table, 0, 255).astype(np.uint8)).resize((SIZE * SCALE, SIZE * SCALE))
    draw = ImageDraw.Draw(canvas)
    draw.rectangle(_box((2, 3, 62, 17)), fill=PLATE, outline=(80, 82, 86))
    for index, part in enumerate(episode.parts):
        if index in scene.placed:
            _part(draw, part, slot_in_assembly(scene.placed.index(index)), SMALL)
        elif index != scene.carried:
            _part(draw, part, tray(part), SMALL)
    _hand(draw, scene)
    if scene.carried is not None:
        _part(draw, episode.parts[scene.carried], scene.hand, LARGE)
    pixels = np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float32)
    ramp = np.linspace(-1, 1, SIZE, dtype=np.float32)
    shade = light.level[frame] + light.tilt[frame, 0] * ramp[None, :] + light.tilt[frame, 1] * ramp[:, None]
    lit = pixels * shade[..., None] + rng.normal(0, 4, pixels.shape)
    out = io.BytesIO()
    Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _part(draw: ImageDraw.ImageDraw, part: Part, at: Point, radius: float) -> None:
    (x, y), r, fill = at, radius, RGB[part.colour]
    edge = tuple(int(v * 0.6) for v in fill)
    if part.shape == "wheel":
        draw.ellipse(_box((x - r, y - r, x + r, y + r)), fill=fill, outline=edge)
        draw.ellipse(_box((x - r / 3, y - r / 3, x + r / 3, y + r / 3)), fill=edge)
    elif part.shape == "block":
        draw.rectangle(_box((x - r * 0.85, y - r * 0.85, x + r * 0.85, y + r * 0.85)), fill=fill, outline=edge)
    elif part.shape == "wedge":
        draw.polygon([(v * SCALE, w * SCALE) for v, w in ((x, y - r), (x + r, y + r), (x - r, y + r))], fill, edge)
    else:
        draw.rectangle(_box((x - r * 0.4, y - r, x + r * 0.4, y + r)), fill=fill, outline=edge)


def _hand(draw: ImageDraw.ImageDraw, scene: Scene) -> None:
    x, y = scene.hand
    if scene.carried is not None:
        x, y = x + 5, y + 5  # behind the part it holds
    draw.line(_box((SIZE + 4, CENTRE[1] + 12, x, y)), fill=SLEEVE, width=6 * SCALE)
    draw.ellipse(_box((x - 4.5, y - 4.5, x + 4.5, y + 4.5)), fill=SKIN)
    spread = 6.5 if scene.is_open else 3.0
    for dx in (-spread, 0.0, spread):
        draw.line(_box((x, y, x + dx - 2, y - 7)), fill=SKIN, width=2 * SCALE)


def _box(values: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    a, b, c, d = values
    return a * SCALE, b * SCALE, c * SCALE, d * SCALE
