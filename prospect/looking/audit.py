"""The label auditor: does what will be trained say what was annotated? Over a whole split, for a given config.

The sequences come from the code that trains (plan, reader, layout). What they should say is worked out here a second
time, from the clips alone, by other means: a sequence is cut into frames and blocks by its token ids and decoded back
to text. `CHECKS` names what is looked at.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rich.table import Table
from rich.text import Text

from pipeline.annotations.clips import ACTIVE_ROLES, Clip, Role, Turn
from pipeline.annotations.dst import State, apply_updates, parse_updates, state_in_words
from pipeline.annotations.files import annotation_file
from pipeline.annotations.filters import parse_filter
from pipeline.annotations.validate import valid_clips
from pipeline.errors import Problem, ProspectError
from pipeline.io.frame_store import open_named, search_roots
from pipeline.progress import Progress, unwatched
from pipeline.shards.reader import of_split, read_clips_of
from pipeline.shards.sample import TurnSample, rebuild_clip
from prospect.carried import NOTHING_YET
from prospect.config import Config
from prospect.data.classes import one_sided
from prospect.data.index import Split, clips_of
from prospect.data.order import Request
from prospect.data.reader import SequenceReader
from prospect.data.sequences import learned, sequence_table
from prospect.layout import CONTEXT, DST_TARGET, IGNORE, LM_TARGET, TokenSequence
from prospect.looking.pieces import Piece, cut, text_of
from prospect.setup import Blueprint, open_split

CHECKS = {
    "classes": "positives and negatives of each head that is trained",
    "labels": "each decision's label: positive at the last frame of an event's range, silence at every other",
    "contradictions": "no decision with two labels; what a label announces comes next",
    "targets": "text and <end_of_utterance> of updates, utterances and summaries supervised, nothing else",
    "images": "<image> tokens as many as the model's, ids inside its vocabulary",
    "truncation": "every frame and every text of a clip in its sequences, none over max_seq_len",
    "states": "the states of samples and parts are the replayed ones",
    "leaks": "a prompt's Current Progress is the state, or the progress text, before its first frame",
    "summaries": "where they are learned, a part but a clip's last ends with the progress text that stands there",
    "rebuild": "the shards' samples rebuild the clips of the index, and of the annotations",
}
PROGRESS = "\n\nCurrent Progress: "
Decision = tuple[int, int]  # (should_update_dst, when_to_speak)


@dataclass(slots=True)
class Audit:
    """How much each check looked at, and what it found."""

    looked_at: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CHECKS, 0))
    violations: dict[str, list[Problem]] = field(default_factory=lambda: {name: [] for name in CHECKS})
    notes: list[str] = field(default_factory=list)

    def check(self, name: str, clip: Clip, what: str, found: object, expected: object) -> None:
        """Make one comparison of check `name`."""
        self.looked_at[name] += 1
        if found != expected:
            self.violations[name].append(Problem(name, clip.id, "", what, _short(found), _short(expected)))

    def first_violations(self, each: int = 10) -> list[Problem]:
        return [problem for problems in self.violations.values() for problem in problems[:each]]


def audit_run(config: Config, blueprint: Blueprint, dataset: str, split: str, progress: Progress) -> Audit:
    """Audit a dataset's split as the run of `config` would train it.

    Raises:
        ProspectError: the shards are not there, or a clip does not fit the config's window.
    """
    data = config.data if split == config.data.train_split else config.data.evaluated
    shards = open_split(data, dataset, split)
    table = sequence_table(shards, blueprint.tokens, data)
    reader = SequenceReader(shards, table, blueprint.tokens, data, blueprint.config.vision_config.image_size, None)
    try:
        annotations, note = annotation_file(data.root, dataset, split), ""
    except ProspectError as error:
        annotations, note = None, f"not compared with annotations: {error}"
    open_frames = partial(open_named, roots=search_roots(data.frames_root, data.root, dataset))
    filters = [parse_filter(one.where) for one in shards.manifest.filters]
    annotated = valid_clips(annotations, open_frames, filters) if annotations else None
    audited = audit(reader, blueprint, annotated, progress)
    audited.notes += [note] if note else []
    if not data.mix:  # of a mix, another dataset may have them
        _check_classes(config, shards, audited)
    return audited


def _check_classes(config: Config, shards: Split, audited: Audit) -> None:
    audited.looked_at["classes"] += 1
    for found, fix in one_sided(config, [shards]):
        expected = f"both classes of each head that is trained ({fix})"
        audited.violations["classes"].append(Problem("classes", str(shards.folder), "", "turns", found, expected))


def audit_table(audited: Audit, dataset: str, split: str) -> Table:
    """Give one row a check."""
    table = Table("check", "of", "compared", "violations", title=f"audit of {dataset}, {split} split")
    for name, about in CHECKS.items():
        count = len(audited.violations[name])
        table.add_row(name, about, f"{audited.looked_at[name]:,}", Text(f"{count:,}", "bold red" if count else ""))
    if audited.notes:
        table.caption = "; ".join(audited.notes)
    return table


def audit_record(audited: Audit, dataset: str, split: str) -> dict[str, Any]:
    """Give for programs what `audit_table` shows, with the first violations of each check."""
    checks = {
        name: {
            "compared": audited.looked_at[name],
            "violations": len(audited.violations[name]),
            "first": [str(problem) for problem in audited.violations[name][:10]],
        }
        for name in CHECKS
    }
    return {"dataset": dataset, "split": split, "checks": checks, "notes": audited.notes}


def audit(
    reader: SequenceReader,
    blueprint: Blueprint,
    annotated: Iterator[tuple[int, Clip]] | None,
    progress: Progress = unwatched,
) -> Audit:
    """Audit every clip of the reader's split.

    Args:
        reader: of the split, without sampling, so that every decision is labelled.
        annotated: place and clip of those of the annotation file, in its order; None: it is not there to be compared.
    """
    audited, model_count = Audit(), blueprint.tokens_a_frame()
    index = reader.split.index
    sequences: dict[str, list[int]] = defaultdict(list)  # clip id -> its rows of the plan
    for number, row in enumerate(reader.table["row"]):
        sequences[index.item(row, "clip_id")].append(number)
    stored = (clip for shard in of_split(reader.split.place) for clip in read_clips_of(shard))
    total = reader.split.manifest.num_clips
    left_out = {skipped.clip for skipped in reader.split.manifest.skipped}
    kept = (clip for place, clip in annotated if place not in left_out) if annotated is not None else None
    for done, clip in enumerate(clips_of(index), 1):
        _audit_stored(clip, next(stored, []), audited)
        if kept is not None:
            audited.check("rebuild", clip, "clip of the annotations", clip, next(kept, None))
        _audit_clip(reader, blueprint, model_count, clip, sequences[clip.id], audited)
        progress("auditing clips", done, total)
    for clip in kept or ():
        audited.check("rebuild", clip, "annotated clip", "not in the shards", "in the shards, or among those left out")
    return audited


def _audit_stored(clip: Clip, samples: list[TurnSample], audited: Audit) -> None:
    """The samples of a clip as they stand in the shards."""
    try:
        rebuilt: object = rebuild_clip(samples) if samples else None
    except ProspectError as error:
        rebuilt = str(error)
    audited.check("rebuild", clip, "clip of the shards", rebuilt, clip)
    state = clip.state
    for sample in samples:
        audited.check("states", clip, f"dst_state of {sample.key}", sample.dst_state, tuple(state.values()))
        if sample.target and sample.target.role == "dst_update":
            state = _after(state, sample.target)


def _audit_clip(
    reader: SequenceReader, blueprint: Blueprint, model_count: int, whole: Clip, sequences: list[int], audited: Audit
) -> None:
    """The sequences of one clip, as they will be trained."""
    clip, memory = learned(whole, reader.data), reader.data.memory
    labels: dict[tuple[int, int], list[Decision]] = defaultdict(list)  # (frame, active blocks at it so far) -> labels
    frames: list[int] = []
    texts: list[tuple[Role | None, str]] = []
    by_clip = reader.data.packing == "clip"
    for number in sequences:
        planned = reader.table.row(number, named=True)
        where = f"frames {planned['first_frame']}..{planned['last_frame']}"
        sample = reader.split.sample(planned["row"] + planned["num_rows"] - 1)
        try:
            sequence = reader.layout(Request(number, 0, 0), planned, sample)
        except ValueError as error:  # the reader's own checks: length, updates that parse
            audited.check("truncation", clip, f"tokens of {where}", str(error), planned["num_tokens"])
            continue
        _check_images(sequence, blueprint, model_count, clip, audited)
        pieces = list(cut(sequence, blueprint))
        if by_clip:
            audited.check("truncation", clip, f"tokens of {where}", len(sequence), planned["num_tokens"])
        longest = reader.data.max_seq_len
        audited.check("truncation", clip, f"tokens over max_seq_len of {where}", max(len(sequence) - longest, 0), 0)
        state = _state_before(clip, planned["first_frame"] if by_clip else clip.start_frame)
        if by_clip:
            audited.check("states", clip, f"state of {where}", tuple(planned["state"]), tuple(state.values()))
        told = _told_before(whole, planned["first_frame"]) if memory == "summary" else None
        is_first = planned["first_frame"] == clip.start_frame
        _check_prompt(pieces[0], clip, state, told if is_first or told is None else told or NOTHING_YET, where, audited)
        goes_on = memory == "summary" and planned["last_frame"] < clip.end_frame
        ends = [_told_before(whole, planned["last_frame"] + 1) or NOTHING_YET] if goes_on else []
        written = [piece.text for piece in pieces if piece.role == "summary"]
        audited.check("summaries", clip, f"summaries of {where}", written, ends)
        audited.check("summaries", clip, f"end of {where}", pieces[-1].role == "summary", goes_on)
        _check_targets(sequence, pieces, blueprint, None if by_clip else sample.target is not None, clip, audited)
        _read_labels(sequence, pieces, by_clip, clip, labels, audited)
        frames += [piece.frame for piece in pieces if piece.role is None]
        texts += [
            (piece.role, piece.text)
            for piece in pieces[1:]
            if piece.role and piece.role != "summary" and (by_clip or _is_target(sequence, piece))
        ]
    _check_whole(clip, reader.data.packing, frames, texts, audited)
    expected = _expected_labels(clip, reader.data.event_margin)
    for place in sorted(expected.keys() | labels.keys()):
        what = f"decision at frame {place[0]}" + (f" after its block {place[1]}" if place[1] else "")
        seen = labels.get(place, [])
        audited.check("contradictions", clip, f"number of labels of the {what}", len(seen), len(seen[:1]))
        audited.check("labels", clip, what, seen[0] if seen else None, expected.get(place))


def _check_images(sequence: TokenSequence, blueprint: Blueprint, model_count: int, clip: Clip, audited: Audit) -> None:
    image = blueprint.config.image_token_id
    audited.check("images", clip, "<image> tokens", sequence.ids.count(image), len(sequence.frames) * model_count)
    vocabulary = blueprint.config.text_config.vocab_size
    audited.check(
        "images", clip, "ids outside the vocabulary", [i for i in sequence.ids if not 0 <= i < vocabulary], []
    )
    audited.check("images", clip, "ends of frame blocks", sum(sequence.at_frame), len(sequence.frames))


def _check_prompt(
    piece: Piece, clip: Clip, state: dict[str, State], told: str | None, where: str, audited: Audit
) -> None:
    """The prompt's progress, read back from its text; `told`: the summary that it is to be, None: the state is."""
    _, _, progress = piece.text.partition(PROGRESS)
    if told is not None:
        audited.check("leaks", clip, f"Current Progress of {where}", progress, told)
    else:
        found = dict(entry.split(":") for entry in progress.split(", ")) if progress else {}
        expected = {step: value for step, value in state.items() if value != "not_started"}
        audited.check("leaks", clip, f"Current Progress of {where}", found, expected)
    audited.check("leaks", clip, f"goal of {where}", f"\n\nTask: {clip.goal}" in piece.text, bool(clip.goal))
    audited.check("truncation", clip, f"steps of {where}", piece.text.count("\n- "), len(clip.steps))


def _check_targets(
    sequence: TokenSequence,
    pieces: list[Piece],
    blueprint: Blueprint,
    has_target: bool | None,
    clip: Clip,
    audited: Audit,
) -> None:
    """The text that the LM losses cover, read back: of an active block its text and <end_of_utterance>, else nothing.

    `has_target`: `turn` packing's one target is the sequence's last block; None of them: all active blocks are.
    """
    last_block = max((i for i, piece in enumerate(pieces) if piece.role), default=0)
    for number, piece in enumerate(pieces):
        supervised: dict[int, list[int]] = defaultdict(list)  # kind of target -> ids
        for position in range(piece.first, piece.last + 1):
            if sequence.target_kind[position] != CONTEXT:
                supervised[sequence.target_kind[position]].append(sequence.ids[position])
        texts = {kind: text_of(ids, blueprint) for kind, ids in supervised.items()}
        is_written = piece.role == "summary" or piece.role in ACTIVE_ROLES
        is_target = is_written and (has_target is None or (has_target and number == last_block))
        kind = DST_TARGET if piece.role == "dst_update" else LM_TARGET
        expected = {kind: f" {piece.text}<end_of_utterance>"} if is_target else {}
        audited.check(
            "targets", clip, f"supervised text of the {piece.role or 'frame'} at frame {piece.frame}", texts, expected
        )


def _read_labels(
    sequence: TokenSequence,
    pieces: list[Piece],
    by_clip: bool,
    clip: Clip,
    labels: dict[tuple[int, int], list[Decision]],
    audited: Audit,
) -> None:
    """Adds the sequence's labels by the decision they are for; a label anywhere else is a violation."""
    blocks_at_frame = 0
    following: Iterable[Piece | None] = [*pieces[1:], None]
    for piece, after in zip(pieces, following, strict=True):
        blocks_at_frame = 0 if piece.role is None else blocks_at_frame + (piece.role in ACTIVE_ROLES)
        for position in range(piece.first, piece.last + 1):
            label = sequence.update_labels[position], sequence.speak_labels[position]
            if label == (IGNORE, IGNORE):
                continue
            at_end = position == piece.last and (piece.role is None or piece.role in ACTIVE_ROLES)
            audited.check("labels", clip, f"label inside a block at frame {piece.frame}", at_end, True)
            if not at_end:
                continue
            labels[piece.frame, blocks_at_frame].append(label)
            if after is None and not by_clip:
                continue  # what comes next stands in the next sample
            announced = {(1, 0): "dst_update", (0, 1): "assistant"}.get(label)
            role = after.role if after and after.role in ACTIVE_ROLES else None
            audited.check(
                "contradictions", clip, f"block after the label {label} at frame {piece.frame}", role, announced
            )


def _is_target(sequence: TokenSequence, piece: Piece) -> bool:
    return any(kind != CONTEXT for kind in sequence.target_kind[piece.first : piece.last + 1])


def _check_whole(
    clip: Clip, packing: str, frames: list[int], texts: list[tuple[Role | None, str]], audited: Audit
) -> None:
    """All frames of the clip are there, and all its texts in order (`turn` packing: those that are targets).

    A system turn after the clip's last frame is in no sequence: nothing comes after it.
    """
    every = range(clip.start_frame, clip.end_frame + 1)
    if packing == "clip":
        audited.check("truncation", clip, "frames", frames, list(every))
        expected = [(t.role, t.text) for t in clip.turns if t.end_frame is None or t.end_frame <= clip.end_frame]
    else:
        audited.check("truncation", clip, "frames", sorted(set(frames)), list(every))
        expected = [(turn.role, turn.text) for turn in clip.turns if turn.role in ACTIVE_ROLES]
    audited.check("truncation", clip, "texts", texts, expected)


def _expected_labels(clip: Clip, event_margin: int) -> dict[tuple[int, int], Decision]:
    """(frame, active blocks at it so far) -> the label of that decision, from the clip alone."""
    labels: dict[tuple[int, int], Decision] = {}
    for frame in range(clip.start_frame, clip.end_frame + 1):
        events = [turn.role for turn in clip.turns if turn.role in ACTIVE_ROLES and turn.end_frame == frame]
        is_unsure = any(
            turn.role in ACTIVE_ROLES and turn.end_frame is not None and 0 < turn.end_frame - frame <= event_margin
            for turn in clip.turns
        )
        if is_unsure and not events:
            continue
        for place, role in enumerate([*events, None]):
            labels[frame, place] = (int(role == "dst_update"), int(role == "assistant"))
    return labels


def _state_before(clip: Clip, frame: int) -> dict[str, State]:
    """The state when `frame` comes in."""
    state = clip.state
    for turn in clip.turns:
        if turn.role == "dst_update" and turn.end_frame is not None and turn.end_frame < frame:
            state = _after(state, turn)
    return state


def _told_before(clip: Clip, frame: int) -> str:
    """The progress text that holds when `frame` comes in; where none is annotated, the replayed state in words."""
    texts = {one.frame: one.text for one in clip.progress if one.frame < frame}
    if texts:
        return texts[max(texts)]
    first = state_in_words(clip.names, clip.state)
    return first if clip.progress else state_in_words(clip.names, _state_before(clip, frame))


def _after(state: dict[str, State], turn: Turn) -> dict[str, State]:
    """The state after an update; where it is illegal, as it was: the comparisons that follow fail."""
    try:
        return apply_updates(state, parse_updates(turn.text))
    except ValueError:
        return state


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 160 else f"{text[:80]} ... {text[-76:]}"
