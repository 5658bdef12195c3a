"""CaptainCook4D's step times (https://github.com/CaptainCook4D/annotations) to spans.

The task graph of a recording's recipe gives its steps, all of them, in an order in which they can be done; those that
the annotation gives times for have spans, with the errors that were made. A step that a graph has twice (microwave,
stir, microwave, stir) is two steps: the first time it was worked on is the first's. There is no dialogue.
"""

from collections import defaultdict
from pathlib import Path

from pipeline.annotations.clips import SPLITS
from pipeline.importers.captaincook4d_files import (
    ERRORS,
    LENGTHS,
    STEPS,
    RawRecording,
    RawStep,
    Recipe,
    Source,
    description_key,
    plain,
    read_source,
    read_splits,
    step_name,
)
from pipeline.importers.outputs import Tally, write_dataset
from pipeline.importers.recognize import refuse_other
from pipeline.spans.records import PAST_END_S, Span, VideoSpans

NAME = "captaincook4d"
DEFAULT_SPLITS = "recordings_data_split_combined"


def import_captaincook4d(
    source: Path, out: Path, splits: str = DEFAULT_SPLITS, force: bool = False
) -> tuple[list[Path], Tally]:
    """Write OUT/{split}_spans.jsonl; returns the files, and what was read and left out.

    Args:
        source: a checkout of the annotations' repository, or a folder with its files.
        splits: name of a file of data_splits/, without .json.

    Raises:
        InvalidInput: files are not of the form expected; nothing was written.
        ProspectError: files are missing, of another source, or in the way.
    """
    if not source.is_dir() or not list(source.rglob(STEPS)):
        raise refuse_other(source, NAME, f"a folder with {STEPS}")
    chosen = read_splits(source, splits)
    read = read_source(source)
    tally = Tally()
    tally.counts["recordings read"] = len(read.recordings)
    tally.counts["task graphs read"] = len(read.recipes)
    tally.counts[f"steps with errors told in {ERRORS}"] = len(read.flags)
    records: dict[str, list[VideoSpans]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        for recording in chosen.get(split, ()):
            if recording not in read.recordings:
                tally.leave_out(f"recordings of {splits} without annotation, left out", recording)
            elif record := _video(read.recordings[recording], read, tally):
                records[split].append(record)
        tally.counts[f"videos, {split}"] = len(records[split])
    if not any(records.values()):
        raise tally.nothing_left(source)
    for recording in read.recordings:
        if not any(recording in names for names in chosen.values()):
            tally.leave_out(f"recordings in no split of {splits}, left out", recording)
    inputs = [file for file in source.rglob("*.json*") if file.is_file()]
    return write_dataset(out, records, {}, force, importer=NAME, inputs=inputs), tally


def _video(recording: RawRecording, read: Source, tally: Tally) -> VideoSpans | None:
    name, recipe = recording.recording_id, read.recipes.get(plain(recording.activity_name))
    if recipe is None:
        tally.leave_out("recordings without a task graph, left out", f"{name} ({recording.activity_name})")
        return None
    length_s = read.lengths_s.get(name)
    if length_s is None:
        tally.leave_out(f"recordings without a length in {LENGTHS}", name)
    entries: dict[str, list[RawStep]] = defaultdict(list)
    for step in recording.steps:
        key = _known(step, recording, recipe, read, tally)
        if key is None:
            tally.leave_out("steps that the task graph lacks, left out", f"{name} {step.description!r}")
        else:
            entries[key].append(step)
    spans: list[tuple[float, int, Span]] = []
    skipped: set[int] = set()
    for key, steps in entries.items():
        places = recipe.places[key]
        performed = [step for step in steps if step.start_time >= 0 and _is_sound(step, name, length_s, tally)]
        performed.sort(key=lambda step: (step.start_time, step.end_time))
        for number, step in enumerate(performed):
            place = places[min(number, len(places) - 1)]
            tally.counts["spans"] += 1
            tally.counts["spans with an error"] += step.has_errors
            tally.counts["spans of a step worked on before"] += number >= len(places)
            spans.append((step.start_time, place, _span(step, recipe.steps[place].id, name, length_s, read, tally)))
        absent = sum(step.start_time < 0 for step in steps)
        free = places[len(performed) :]
        skipped |= set(free[:absent])
        for _ in range(absent - len(free)):
            tally.leave_out("entries 'not performed' of a step that was, left out", f"{name} {step_name(key)!r}")
    tally.counts["steps not performed"] += len(skipped)
    missing = len(recipe.steps) - len(skipped | {place for _, place, _ in spans})
    tally.counts["steps of a task graph without an entry"] += missing
    return VideoSpans(
        video=name,
        dataset=NAME,
        duration_s=length_s,
        steps=recipe.steps,
        spans=tuple(span for _, _, span in sorted(spans, key=lambda entry: entry[:2])),
        not_performed=tuple(recipe.steps[place].id for place in sorted(skipped)),
        provenance={
            "activity": recording.activity_name,
            "person": recording.person_id,
            "environment": recording.environment,
            "task_graph": recipe.file,
            "nodes": {step.id: node for step, node in zip(recipe.steps, recipe.nodes, strict=True)},
        },
    )  # fmt: skip


def _known(step: RawStep, recording: RawRecording, recipe: Recipe, read: Source, tally: Tally) -> str | None:
    """The description as the task graph has it: this one, or, if misspelt, the only one of this `step_id`."""
    key = description_key(step.description)
    if key in recipe.places:
        return key
    others = read.known_as.get((recording.activity_id, step.step_id), set())
    if len(others) != 1:
        return None
    tally.leave_out(
        "descriptions that the task graph lacks, read by their step_id",
        f"{recording.recording_id} {step.description!r}",
    )
    return next(iter(others))


def _is_sound(step: RawStep, recording: str, length_s: float | None, tally: Tally) -> bool:
    where = f"{recording} step {step.step_id}, {step.start_time} to {step.end_time} s"
    if step.end_time < step.start_time:
        tally.leave_out("spans that end before they begin, left out", where)
    elif length_s is not None and step.start_time > length_s:
        tally.leave_out("spans that begin after their video's end, left out", where)
    else:
        return True
    return False


def _span(step: RawStep, id: str, recording: str, length_s: float | None, read: Source, tally: Tally) -> Span:
    end_s = step.end_time
    if length_s is not None and end_s > length_s + PAST_END_S:
        tally.leave_out("spans that end after their video, cut there", f"{recording} step {step.step_id}, {end_s} s")
        end_s = length_s
    return Span(
        step=id,
        start_s=step.start_time,
        end_s=end_s,
        outcome="error" if step.has_errors else "done",
        source=STEPS,
        flags=read.flags.get((recording, step.step_id, step.start_time, step.end_time), ()),
    )
