"""ProAssist's generated dialogues (`generated_dialogs/SPLIT_filtered.json`) to dialogues, steps and described blocks.

A record a video (https://github.com/pro-assist/ProAssist): conversations in seconds, one a user type; the task's
knowledge, with a numbered list of steps; and `all_step_descriptions`, what is seen when, a line a block. Blocks that
name steps are spans, where every step and every block of a video do. Else the times of the steps are not known: the
video's record has its steps, no spans, and the blocks in `provenance["blocks"]`, which `prospect annotate` assigns.

A block names a step if the words are the same but for case, articles, full stops and the remark in brackets; "detach
A from B" undoes "attach A to B", and a remark that tells of a mistake is outcome `error`.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError

from pipeline.annotations.json_files import read_raw_clips
from pipeline.annotations.records import report_errors
from pipeline.annotations.report import Report
from pipeline.errors import InvalidInput, Problem
from pipeline.importers.formats import HALF_PAIR, has_half_pair, refuse_others, split_of
from pipeline.importers.knowledge import read_knowledge
from pipeline.importers.outputs import Tally, write_dataset
from pipeline.importers.rows import MOST_S
from pipeline.spans.blocks import Block
from pipeline.spans.records import Dialogue, Line, NamedStep, Seconds, Span, VideoSpans

EXPECTED = "ProAssist's generated_dialogs, records with `conversations` and `parsed_video_anns`"
BLOCK = re.compile(r"\s*(?:[-*]\s*)?\[(\d+(?:\.\d+)?)s?(?:\s*-\s*(\d+(?:\.\d+)?)s?)?\]\s*(\S.*?)\s*")
SAID = re.compile(r"(?:assistant|user)\s*:", re.IGNORECASE)  # an utterance of the video's own dialogue, not a block
REMARK = re.compile(r"\s*\(([^()]*)\)\s*$")


class _Raw(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Turn(_Raw):
    role: Literal["system", "user", "assistant"]
    content: StrictStr
    time: Seconds


class _Conversation(_Raw):
    conversation: list[_Turn]
    user_type: StrictStr = Field(pattern=r"\S")
    auto_quality_eval: dict[str, Any] = {}


class _Seen(_Raw):
    all_step_descriptions: StrictStr = ""
    duration: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    video_start_time: float | None = None


class _Record(_Raw):
    video_uid: StrictStr = Field(pattern=r"\S")
    inferred_goal: StrictStr = ""
    inferred_knowledge: StrictStr = ""
    conversations: list[_Conversation]
    parsed_video_anns: _Seen


def import_proassist_generated(
    files: Sequence[Path],
    out: Path,
    *,
    split: str | None = None,
    dataset: str | None = None,
    force: bool = False,
) -> tuple[list[Path], Tally]:
    """Write OUT/{split}_spans.jsonl and _dialogues.jsonl; returns what was written, and a tally.

    Args:
        split: of all files; None: as each file's name says (`train_filtered.json`).
        dataset: None: OUT's name.

    Raises:
        InvalidInput: records that are wrong, all of them; nothing was written.
        ProspectError: a file cannot be read, or files are in the way.
    """
    name = dataset or out.resolve().name
    tally, problems = Tally(), list[Problem]()
    spans: dict[str, list[VideoSpans]] = {}
    dialogues: dict[str, list[Dialogue]] = {}
    for file in files:
        refuse_others(file, "proassist-generated", EXPECTED)
        its_split = split_of(file, split)
        its_spans, its_dialogues = spans.setdefault(its_split, []), dialogues.setdefault(its_split, [])
        for number, raw in enumerate(read_raw_clips(file)):
            record = _checked(file, number, raw, problems)
            if record is None:
                continue
            tally.counts["videos"] += 1
            its_dialogues += _dialogues(record, name, tally)
            if video := _spans_of(record, name, file.name, tally):
                its_spans.append(video)
            else:
                tally.leave_out("videos whose knowledge has no steps, dialogue alone", record.video_uid)
        tally.counts["files"] += 1
    if problems:
        raise InvalidInput(problems, f"nothing was written: correct {', '.join(file.name for file in files)}")
    return write_dataset(out, spans, dialogues, force, importer="proassist-generated", inputs=files), tally


def _checked(file: Path, number: int, raw: Any, problems: list[Problem]) -> _Record | None:
    if not isinstance(raw, dict):
        problems.append(Problem(file.name, f"record {number}", "", "record", type(raw).__name__, "a JSON object"))
        return None
    if has_half_pair(raw):
        problems.append(Problem(file.name, f"record {number}", "", "record", HALF_PAIR, "text"))
        return None
    try:
        return _Record.model_validate(raw)
    except ValidationError as error:
        report = Report(file.name, f"record {number} (video_uid {raw.get('video_uid')!r})")
        report_errors(error, report)
        problems += report.problems
        return None


def _dialogues(record: _Record, dataset: str, tally: Tally) -> Iterator[Dialogue]:
    """A dialogue a conversation; its id is the user type, with a number from the second of a type on."""
    seen: Counter[str] = Counter()
    for conversation in record.conversations:
        seen[conversation.user_type] += 1
        nth = seen[conversation.user_type]
        id = conversation.user_type if nth == 1 else f"{conversation.user_type}-{nth}"
        said = [turn for turn in conversation.conversation if turn.content.strip()]
        if len(said) < len(conversation.conversation):
            empty = len(conversation.conversation) - len(said)
            tally.leave_out("dialogues with empty lines, which were left out", f"{record.video_uid} {id} ({empty})")
        turns = sorted(said, key=lambda turn: turn.time)
        if turns != said:
            tally.leave_out("dialogues whose lines were put in the order of their times", f"{record.video_uid} {id}")
        if not turns:
            tally.leave_out("dialogues without a line, left out", f"{record.video_uid} {id}")
            continue
        tally.counts["dialogues"] += 1
        tally.counts["lines"] += len(turns)
        yield Dialogue(
            video=record.video_uid,
            dataset=dataset,
            id=id,
            lines=tuple(Line(role=turn.role, text=turn.content, start_s=turn.time) for turn in turns),
            about={"user_type": conversation.user_type, "task_goal": record.inferred_goal, **_quality(conversation)},
        )


def _quality(conversation: _Conversation) -> dict[str, Any]:
    """ProAssist's scores of a conversation: `quality`, as its prepared files have it, and what it was made of."""
    scores = conversation.auto_quality_eval
    if not scores:
        return {}
    quality = {"quality": scores["final_score"]} if isinstance(scores.get("final_score"), int | float) else {}
    return {**quality, "auto_quality_eval": scores}


def _spans_of(record: _Record, dataset: str, file: str, tally: Tally) -> VideoSpans | None:
    knowledge = read_knowledge(record.inferred_knowledge)
    if not knowledge.steps:
        return None
    steps = tuple(NamedStep(id=f"S{number}", name=name) for number, name in enumerate(knowledge.steps, 1))
    tally.counts["lines of knowledge in no step"] += knowledge.num_left_out
    blocks = _blocks(record, tally)
    spans = _named(steps, blocks, file)
    if spans:
        tally.counts["videos whose blocks name their steps: spans"] += 1
    elif blocks:
        tally.counts["videos with described blocks, for prospect annotate"] += 1
    else:
        tally.leave_out("videos with nothing described", record.video_uid)
    tally.counts["steps"] += len(steps)
    tally.counts["blocks"] += len(blocks)
    tally.counts["spans"] += len(spans)
    described = [block.model_dump(exclude_none=True) for block in blocks]
    return VideoSpans(
        video=record.video_uid,
        dataset=dataset,
        duration_s=_duration(record, blocks),
        steps=steps,
        spans=tuple(spans),
        provenance={"file": file, "blocks": described},
    )


def _blocks(record: _Record, tally: Tally) -> list[Block]:
    """The described blocks, in the order of their times; utterances among them are not blocks."""
    blocks: list[Block] = []
    for number, line in enumerate(record.parsed_video_anns.all_step_descriptions.splitlines(), 1):
        if not line.strip():
            continue
        found = BLOCK.fullmatch(line)
        if not found:
            tally.leave_out(
                "described lines without a time, left out", f"{record.video_uid} line {number} ({line.strip()[:60]})"
            )
            continue
        start_s, end_s = float(found[1]), float(found[2] or found[1])
        if SAID.match(found[3]):
            tally.counts["utterances among the described blocks, left out"] += 1
        elif not start_s <= end_s <= MOST_S:
            tally.leave_out(
                "described blocks that end before they begin, or too late, left out",
                f"{record.video_uid} line {number}",
            )
        else:
            blocks.append(Block(start_s=start_s, end_s=end_s, text=found[3]))
    return sorted(blocks, key=lambda block: (block.start_s, block.end_s))


def _duration(record: _Record, blocks: Sequence[Block]) -> float | None:
    """The video's length. Where `video_start_time` is there, `duration` is that of the annotated part."""
    seen = record.parsed_video_anns
    last_s = max((block.end_s for block in blocks), default=0)
    if seen.duration is None or seen.video_start_time is not None or seen.duration < last_s:
        return None
    return seen.duration


def _named(steps: Sequence[NamedStep], blocks: Sequence[Block], file: str) -> list[Span]:
    """Spans, if each block names a step and each step is named; else none."""
    ids: Mapping[str, str] = {_words(step.name): step.id for step in steps}
    if len(ids) < len(steps):  # two steps of one name: which of them a block names is not known
        return []
    spans: list[Span] = []
    for block in blocks:
        remark = REMARK.search(block.text)
        words = _words(REMARK.sub("", block.text))
        taken_back = re.sub(r"^detach (.+) from (.+)$", r"attach \1 to \2", words)
        step = ids.get(words) or ids.get(taken_back)
        if step is None:
            return []
        undone = words not in ids
        wrong = remark is not None and "mistake" in remark[1].lower()
        spans.append(
            Span(
                step=step,
                start_s=block.start_s,
                end_s=block.end_s,
                outcome="undone" if undone else "error" if wrong else "done",
                source=file,
                flags=(remark[1],) if remark else (),
            )
        )
    return spans if {span.step for span in spans if span.outcome != "undone"} == set(ids.values()) else []


def _words(text: str) -> str:
    return " ".join(word for word in re.findall(r"[^\W_]+", text.lower()) if word not in ("the", "a", "an"))
