"""The token sequence of a sample as the model sees it, from the code that trains, with what is learned at each token.

`token_data` cuts it into frames and blocks, for a terminal (`token_view`) and for pages (`pages/static/tokens.js`).
Both say without colours what they say with them: learned text stands in « » (on pages: filled and underlined), the rest
is masked; a decision is learned at the last token of a frame or block, where (update, speak) follows with a word. The
<image> tokens of a frame are drawn as one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.errors import ProspectError
from pipeline.io.storage import beginning, write_atomically
from pipeline.shards.sample import TurnSample, rebuild_clip
from prospect.config import Config, DataConfig
from prospect.data.negatives import is_kept, rate_at
from prospect.data.sequences import part_sequence, parts_of
from prospect.layout import (
    CONTEXT,
    DST_TARGET,
    IGNORE,
    LM_TARGET,
    Decision,
    Tokens,
    TokenSequence,
)
from prospect.looking.pieces import cut
from prospect.pages.html import one_file
from prospect.setup import Blueprint
from prospect.turn_layout import turn_sequence

NAMES = {CONTEXT: "context", LM_TARGET: "lm", DST_TARGET: "dst_gen"}
TARGETS = {"context": "dim", "lm": "green", "dst_gen": "magenta"}
DECISIONS: dict[Decision, tuple[str, str]] = {  # what is said by (update, speak), and its colours
    (1, 0): ("update", "bold black on dark_orange"), (0, 1): ("speak", "bold white on blue"),
    (0, 0): ("silent", "white on grey37"), (1, 1): ("update and speak", "bold white on red"),
}  # fmt: skip
NO_LABEL, NOT_DRAWN = "no label", "not drawn"
TITLE = "Tokens of"  # of a page
BEGINNING = 1024  # bytes of a page that hold its title
BORDER, NEWLINE = "│", "⏎"
HEADINGS = {"dst_update": "DST", "assistant": "assistant", "user": "user", "system": "system"}


@dataclass(frozen=True, slots=True)
class Laid:
    """A sequence as a run learns it, every silent frame labelled, and its place among those of its clip."""

    sequence: TokenSequence
    number: int  # from 1
    count: int
    unit: Literal["part", "sample"]
    clip_id: str


def sequence_of(sample: TurnSample, clip: Sequence[TurnSample], tokens: Tokens, data: DataConfig) -> Laid:
    """Give the sequence that a sample is trained in: its own (`turn` packing), or the part of its clip where it ends.

    `clip` is all samples of its clip. Silent frames are all labelled, as in validation; training draws from them.
    """
    if data.packing == "turn":
        coming = next((s.target for s in clip if s.sample_idx > sample.sample_idx and s.target), None)
        next_event = coming.end_frame if coming else None
        following = coming.role if coming and sample.target and next_event == sample.end_frame else None
        sequence = turn_sequence(tokens, sample, following, next_event=next_event, event_margin=data.event_margin)
        return Laid(sequence, sample.sample_idx + 1, sample.num_samples, "sample", sample.clip.id)
    laid = parts_laid(clip, tokens, data)
    return next(part for part in laid if part.sequence.frames[-1] >= sample.end_frame)


def parts_laid(clip: Sequence[TurnSample], tokens: Tokens, data: DataConfig) -> list[Laid]:
    """Give the parts of a clip (all of its samples), in order (`clip` packing)."""
    whole = rebuild_clip(clip)
    parts = parts_of(whole, tokens, data)
    sequences = (part_sequence(whole, part, tokens, data) for part in parts)
    return [Laid(sequence, number, len(parts), "part", whole.id) for number, sequence in enumerate(sequences, 1)]


def drawn_at_first(config: Config, clip_id: str) -> Callable[[int], bool]:
    """Say which silent frames a run learns from at its first step; every other epoch and rate draws anew."""
    rate = rate_at(config.data.negatives, 0, 1)
    return lambda frame: is_kept(config.train.seed, 0, clip_id, frame, rate)


def token_rows(sequence: TokenSequence, tokenizer: Any) -> list[dict[str, Any]]:
    """Give one record a token: position, id, text, what it is a target of, and the decision learned at it, if any."""
    rows = []
    for position, token in enumerate(sequence.ids):
        update, speak = sequence.update_labels[position], sequence.speak_labels[position]
        rows.append(
            {
                "position": position,
                "id": token,
                "text": tokenizer.decode([token]),
                "target": NAMES[sequence.target_kind[position]],
                "should_update_dst": None if update == IGNORE else update,
                "when_to_speak": None if speak == IGNORE else speak,
                "at_frame": bool(sequence.at_frame[position]),
            }
        )
    return rows


def token_data(laid: Laid, blueprint: Blueprint, drawn: Callable[[int], bool] | None = None) -> dict[str, Any]:
    """Cut a sequence into what is drawn: `blocks` in order, neighbouring frames as one, each with `items`.

    An item is a token (`at`: its position; `id`, `text`, `target` as in `token_rows`) or a frame (`frame`: its index;
    `at`: the position of its last token). `decision` is [update, speak] where one is learned. `drawn` is of silent
    frames: whether the run's first epoch learns from it (None: not asked).

    Args:
        drawn: says so of a frame, e.g. `drawn_at_first`.
    """
    sequence = laid.sequence
    rows = token_rows(sequence, blueprint.tokenizer)
    for row in rows:
        if "\ufffd" in row["text"]:  # a piece of a letter: as the vocabulary has it
            row["text"] = blueprint.tokenizer.convert_ids_to_tokens(row["id"])
    blocks: list[dict[str, Any]] = []
    for is_frame, pieces in groupby(cut(sequence, blueprint), key=lambda piece: piece.role is None):
        if is_frame:
            items = [_frame_item(piece.frame, piece.last, sequence, drawn) for piece in pieces]
            blocks.append({"role": "frames", "items": items})
            continue
        for piece in pieces:
            items = [_token_item(row) for row in rows[piece.first : piece.last + 1]]
            blocks.append({"role": "prompt" if piece.first == 0 else piece.role, "items": items})
    return {
        "num_tokens": len(sequence), "num_frames": len(sequence.frames),
        "image_tokens": blueprint.tokens.tokens_per_frame, "tokens_a_frame": len(blueprint.tokens.frame.ids),
        "unit": laid.unit, "number": laid.number, "count": laid.count, "clip": laid.clip_id,
        "is_drawn": drawn is not None,
        "first_frame": min(sequence.frames, default=None), "last_frame": max(sequence.frames, default=None),
        "blocks": blocks,
    }  # fmt: skip


def _token_item(row: dict[str, Any]) -> dict[str, Any]:
    item = {"at": row["position"], "id": row["id"], "text": row["text"], "target": row["target"]}
    return item | {"decision": _decision(row["should_update_dst"], row["when_to_speak"])}


def _frame_item(frame: int, at: int, sequence: TokenSequence, drawn: Callable[[int], bool] | None) -> dict[str, Any]:
    update, speak = sequence.update_labels[at], sequence.speak_labels[at]
    decision = None if update == IGNORE else [update, speak]
    is_silent = sequence.silent_frame[at] >= 0
    return {"frame": frame, "at": at, "decision": decision, "drawn": drawn(frame) if drawn and is_silent else None}


def _decision(update: int | None, speak: int | None) -> list[int] | None:
    return None if update is None or speak is None else [update, speak]


def about(data: dict[str, Any]) -> list[str]:
    """Say how long the sequence of `token_data` is, and where its clip is cut."""
    frames = f"{data['num_frames']} frames of {data['image_tokens']} <image> tokens"
    told = [f"{data['num_tokens']:,} tokens, {frames}"]
    number, count = data["number"], data["count"]
    if data["unit"] == "sample":
        return [*told, f"sample {number} of {count}, a sequence of its own (turn packing)"]
    if count == 1:
        return [*told, "the whole clip in one part"]
    told.append(f"part {number} of {count}: frames {data['first_frame']} to {data['last_frame']}")
    if number > 1:
        told.append(f"cut before it: part {number - 1} filled the window, and this prompt carries on")
    if number < count:
        told.append(f"cut after it: the window is full, part {number + 1} begins with a prompt of its own")
    return told


def write_token_page(path: Path, key: str, data: dict[str, Any]) -> None:
    """Write `token_data` as a page that opens offline: whole, or not at all.

    Raises:
        ProspectError: `path` is there and is no such page.
    """
    if path.is_dir() or (path.exists() and f"<title>{TITLE} ".encode() not in beginning(path, BEGINNING)):
        raise ProspectError(f"--html {path}: is there already, and no page of tokens; name another file")
    about_it = [("tokens", data | {"key": key})]
    write_atomically(path, "".join(one_file(f"{TITLE} {key}", "tokens/main.js", ["tokens.css"], about_it)).encode())


def token_view(data: dict[str, Any]) -> Group:
    """Draw `token_data` for a terminal."""
    legend = Text("masked ", TARGETS["context"])
    legend.append("«learned: DST» ", TARGETS["dst_gen"]).append("«learned: text» ", TARGETS["lm"])
    legend.append(f"{BORDER} between tokens; decision learned there, (update, speak): ")
    for decision in ((1, 0), (0, 1), (0, 0)):
        legend.append_text(_told(decision)).append(" ")
    if data["is_drawn"]:
        legend.append_text(_told((0, 0), drawn=False)).append(": silent, left out in the first epoch")
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for block in data["blocks"]:
        is_frames = block["role"] == "frames"
        lines: RenderableType
        lines = _frames_lines(block["items"], data["image_tokens"]) if is_frames else _tokens_line(block["items"])
        table.add_row(HEADINGS.get(block["role"], block["role"]), lines)
    return Group(legend, *(Text(line) for line in about(data)), Text(), table)


def _frames_lines(items: Sequence[dict[str, Any]], image_tokens: int) -> Columns:
    lines = []
    for item in items:
        line = Text(f"[frame {item['frame']}: {image_tokens} x <image>]", no_wrap=True)
        line.append(" ").append_text(_told(item["decision"], item["drawn"]))
        lines.append(line)
    return Columns(lines, padding=(0, 2), equal=True)


def _tokens_line(items: Sequence[dict[str, Any]]) -> Text:
    line = Text()
    for target, run in groupby(items, key=lambda item: item["target"]):
        line.append("«" if target != "context" else "", "bold")
        for place, item in enumerate(run):
            shown = item["text"].replace("\n", NEWLINE)
            line.append(BORDER if place else "", "dim").append(shown, TARGETS[target])
            line.append("\n" * (item["text"].count("\n") if item is not items[-1] else 0))
            if item["decision"]:
                line.append(" ").append_text(_told(item["decision"]))
        line.append("»" if target != "context" else "", "bold")
    return line


def _told(decision: Sequence[int] | None, drawn: bool | None = None) -> Text:
    if decision is None:
        return Text(NO_LABEL, "dim")
    word, style = DECISIONS[decision[0], decision[1]]
    if drawn is False:
        word, style = NOT_DRAWN, "dim"
    return Text(f"({decision[0]},{decision[1]}) {word}", style)
