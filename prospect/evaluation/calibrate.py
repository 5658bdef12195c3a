"""`prospect calibrate`: the thresholds of both heads, found on a validation split and stored with the checkpoint.

1. Stream each clip once with the reference's blocks written, and sweep thresholds over the cached probabilities.
2. Stream each of the best pairs for real: after its own mistakes a head is in contexts that step 1 cannot know.
3. Store the pair of the best mean of should_update_dst_f1 and when_to_speak_f1, with what it was found on. Of a model
   without DST the second counts alone; a head without events keeps the default, and is told.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState
from rich.table import Table

from pipeline.errors import ProspectError
from pipeline.io.engine import Engine
from pipeline.io.storage import write_json
from pipeline.progress import Progress, Tell, untold, unwatched
from prospect.evaluation.dst_scores import dst_metrics, dst_terms
from prospect.evaluation.evaluate import ProspectEvaluator, join_ranks, refuse_foreign, sole_writer
from prospect.evaluation.pages.reliability import MARK, write_reliability
from prospect.evaluation.predict import Places
from prospect.evaluation.predictions import ClipPrediction, read_prediction
from prospect.evaluation.replay import Row
from prospect.evaluation.thresholds import (
    GRID,
    HEADS,
    Head,
    best_pairs,
    count_events,
    doubts,
    reliability,
    sweep,
    swept_heads,
)
from prospect.runs import THRESHOLDS, find_checkpoint
from prospect.stream.load import Overrides, Thresholds

CALIBRATION, DIAGRAM = "calibration.json", "reliability.html"


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was found, best first."""

    stored: Path
    tried: tuple[dict[str, float | None], ...]  # thresholds with their streamed F1s
    ece: dict[str, float]  # expected calibration error by head
    notes: tuple[str, ...]  # what the thresholds are not, as they were found on no events or on few


def calibrate_checkpoint(
    checkpoint: str,
    places: Places,
    out: Path,
    *,
    video_ids: Sequence[str] | None = None,
    limit: int | None = None,
    confirm: int = 5,
    overwrite: bool = False,
    streams: int = 1,
    engine: Engine | None = None,
    progress: Progress = unwatched,
    tell: Tell = untold,
) -> Calibration:
    """Find and store the thresholds of a checkpoint's folder (or a run's last checkpoint).

    Args:
        confirm: how many of the best pairs are streamed.
        streams: how many clips each process streams side by side.
        engine: as `ProspectEvaluator` takes it.

    Raises:
        ProspectError: the checkpoint is no folder here, there is no event of any head, or as `ProspectEvaluator`.
    """
    folder = Path(find_checkpoint(checkpoint))
    if not folder.is_dir():  # the hub's cache is not ours to write into
        raise ProspectError(
            f"{checkpoint}: thresholds are stored with the checkpoint; download it (hf download {checkpoint} "
            "--local-dir FOLDER), and pass that folder"
        )

    told: dict[str, None] = {}  # by the evaluations, each note once

    def streamed(name: str, row: Row, update: float, speak: float) -> list[ClipPrediction]:
        overrides = Overrides(update_threshold=update, speak_threshold=speak)
        evaluator = ProspectEvaluator(
            str(folder), places, video_ids, out=out / name, limit=limit, overwrite=overwrite, streams=streams,
            engine=engine, progress=progress, tell=tell, overrides=overrides,
        )  # fmt: skip
        clips = evaluator.clips()
        predictions = evaluator.stream(clips, [row], ranks)
        told.update(dict.fromkeys(evaluator.notes))
        return [read_prediction(predictions / row / one.file_name) for one in clips]

    ranks = join_ranks()
    refuse_foreign(out, {CALIBRATION: '"num_clips"', DIAGRAM: MARK})
    with sole_writer(out, ranks):
        return _calibrated(folder, places, out, confirm, streamed, told, ranks)


def _calibrated(
    folder: Path,
    places: Places,
    out: Path,
    confirm: int,
    streamed: Callable[..., list[ClipPrediction]],
    told: Mapping[str, None],
    ranks: PartialState,
) -> Calibration:
    forced = streamed("forced", "forced", 0.5, 0.5)
    num_events = {head: count_events(forced, head) for head in swept_heads(forced)}
    if not any(num_events.values()):
        found = f"{', '.join(places.splits)}: found no events in {len(forced)} clips"
        raise ProspectError(f"{found}, expected some to find thresholds on; nothing is stored: calibrate on others")
    sweeps = {head: sweep(forced, head) for head, count in num_events.items() if count}
    notes = [*told, *doubts(num_events, len(forced))]
    pairs = best_pairs(sweeps.get("should_update_dst"), sweeps.get("when_to_speak"), confirm)
    f1_of = {pair: _f1(streamed("pair-{}-{}".format(*pair), "model", *pair), list(sweeps)) for pair in pairs}
    pairs.sort(key=lambda pair: -f1_of[pair][1])  # stable: of equal ones that which the sweep ranked first
    records = [_record(pair, *f1_of[pair]) for pair in pairs]
    by_head = reliability(forced)
    if ranks.is_main_process:
        about = {
            "data": list(places.splits), "num_clips": len(forced), "num_events": num_events, "notes": notes,
            "tried": records,
        }  # fmt: skip
        Thresholds(*pairs[0], about).save(folder)
        curves: dict[str, list[float]] = {head: list(one.f1) for head, one in sweeps.items()}
        record = about | {"checkpoint": str(folder), "grid": list(GRID), "sweep": curves, "reliability": by_head}
        write_json(out / CALIBRATION, record)
        write_reliability(out / DIAGRAM, record)
    ranks.wait_for_everyone()
    ece = {head: of_head["ece"] for head, of_head in by_head.items()}
    return Calibration(folder / THRESHOLDS, tuple(records), ece, tuple(notes))


def _f1(predictions: Sequence[ClipPrediction], heads: Sequence[Head]) -> tuple[dict[str, float | None], float]:
    """F1 of both heads as streamed, and the mean of `heads`, which have events: theirs is never undefined."""
    metrics = dst_metrics([dst_terms(one) for one in predictions])
    of_heads = [metrics[f"{head}_f1"] or 0.0 for head in heads]
    return {f"{head}_f1": metrics[f"{head}_f1"] for head in HEADS}, sum(of_heads) / len(heads)


def _record(pair: tuple[float, float], f1: dict[str, float | None], mean: float) -> dict[str, float | None]:
    update, speak = pair
    return {"update_threshold": update, "speak_threshold": speak, **f1, "mean": mean}


def calibration_table(calibration: Calibration) -> Table:
    table = Table("update threshold", "speak threshold", "update F1", "speak F1", "mean", title="pairs, streamed")
    for number, pair in enumerate(calibration.tried):
        table.add_row(
            *("–" if value is None else f"{value:.3f}" for value in pair.values()), style="bold" if number == 0 else ""
        )
    table.caption = ", ".join(f"{head}: calibration error {ece:.3f}" for head, ece in calibration.ece.items())
    return table
