"""`prospect evaluate`: streams every clip of a split, and measures what was streamed. Read this first.

1. Stream (`predict.py`): a prediction file for each clip and row. The rows beside the model's own are what its
   numbers have to be read against: always silent, blind (grey frames), text only (no frames), oracle state.
2. Measure (`scores.py`), from the files alone: ProAssist's metrics and the state's, per dataset and over all, with
   bootstrap intervals, and per clip.
3. metrics.json for machines, report.html for people; a judge's scores (`judge.py`) stay where they still fit.

Interrupted, it goes on where it was; a clip whose annotations have changed is streamed again. Under torchrun the clips
are shared, and the main process measures; with an engine its workers stream, and this process writes and measures.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from pipeline.annotations.clips import Clip
from pipeline.errors import ProspectError
from pipeline.io.engine import Engine
from pipeline.io.lock import lock_beside, sole_owner
from pipeline.io.storage import beginning, write_json
from pipeline.progress import Progress, Tell, untold, unwatched
from prospect.evaluation.embeddings import Embedder, load_embedder
from prospect.evaluation.events import predicted_speech, reference_speech
from prospect.evaluation.judge import carry_judge, judge_there
from prospect.evaluation.pages.html import MARK, write_report
from prospect.evaluation.predict import (
    EvaluatedClip,
    Places,
    open_clips,
    prepare_folder,
    remove_folder,
    stream_clips,
    stream_record,
    streaming,
)
from prospect.evaluation.predictions import ClipPrediction, read_prediction
from prospect.evaluation.replay import Row
from prospect.evaluation.results import FORMAT, METRICS, PREDICTIONS, REPORT, SILENT
from prospect.evaluation.scores import (
    ClipScores,
    by_dataset,
    clip_metrics,
    measure,
    pooled,
    speech_pairs,
    undefined_notes,
)
from prospect.evaluation.spread import Origin, Spread
from prospect.evaluation.text_scores import MeteorProcess
from prospect.model.hub import checkpoint_folder, checkpoint_name
from prospect.model.moved import CannotMove
from prospect.revision import revision
from prospect.stream.context import POLICIES
from prospect.stream.load import NO_OVERRIDES, Overrides, load_streamer
from prospect.stream.rate import rate_note, trained_rates
from prospect.stream.records import FrameRecord

ROWS: tuple[Row, ...] = ("model", "blind", "text_only", "oracle_state")
RANKS_WAIT = timedelta(days=7)  # ranks finish their clips hours apart

Scorer = Literal["prospect", "proassist"]


class ProspectEvaluator:
    """Evaluates one checkpoint; `evaluate` returns what metrics.json holds."""

    def __init__(
        self,
        model_path: str,
        data_source: str | Path | Places,
        video_ids: Sequence[str] | None = None,
        *,
        out: Path = Path("evaluation"),
        limit: int | None = None,
        rows: Sequence[Row] = ROWS,
        scorer: Scorer = "prospect",
        embedding: str | None = None,
        overwrite: bool = False,
        streams: int = 1,
        engine: Engine | None = None,
        overrides: Overrides = NO_OVERRIDES,
        progress: Progress = unwatched,
        tell: Tell = untold,
    ) -> None:
        """
        Args:
            model_path: a checkpoint's folder, a run's folder (its last checkpoint), or a hub id.
            data_source: a split folder of build-shards, OUT/DATASET/SPLIT, or several with their frames (`Places`).
            video_ids: of the videos (or clips) to evaluate; None: all.
            out: folder of predictions, metrics.json and report.html.
            limit: the first so many clips.
            rows: what is streamed; "model" is always.
            scorer: "proassist" computes ProAssist's metrics by its own package too.
            embedding: sentence embedding model; None: ProAssist's, or a packaged one where it cannot be had.
            overwrite: stream again over another evaluation's predictions; its results are removed first.
            streams: how many clips each process streams side by side; the results are the same but for rounding.
            engine: whose workers stream; None: this process, or those that torchrun started.
            overrides: settings of the stream that are not those of the checkpoint.
            tell: takes a line about what was there already, for whoever looks on.
        """
        self.places = data_source if isinstance(data_source, Places) else Places((str(data_source),))
        self.checkpoint = model_path  # `stream` finds its folder, once
        self.video_ids, self.limit, self.out, self.overwrite = video_ids, limit, out, overwrite
        self.rows: tuple[Row, ...] = ("model", *(row for row in rows if row != "model"))
        self.scorer, self.embedding, self.streams, self.overrides = scorer, embedding, streams, overrides
        self.engine, self.progress, self.tell = engine, progress, tell
        self.notes: list[str] = []

    def evaluate(self) -> dict[str, Any]:
        """Stream, measure, write metrics.json and report.html; under torchrun {} on the other ranks.

        Raises:
            ProspectError: bad checkpoint, shards, frames, ids or settings, or `out` holds another evaluation.
        """
        ranks = join_ranks()
        with sole_writer(self.out, ranks):
            return self._results(self.clips(), ranks)

    def _results(self, clips: Sequence[EvaluatedClip], ranks: PartialState) -> dict[str, Any]:
        judge, lost = judge_there(self.out / METRICS)  # before --overwrite removes it
        self.notes += [lost] if lost else []
        predictions = self.stream(clips, self.rows, ranks)
        if not ranks.is_main_process:
            return {}
        streamed = {row: [read_prediction(predictions / row / one.file_name) for one in clips] for row in self.rows}
        metrics = self.measure_rows(streamed, [one.clip for one in clips])
        metrics = carry_judge(judge, metrics, streamed) if judge else metrics
        write_json(self.out / METRICS, metrics)
        images = {(one.clip.dataset, one.clip.id): one for one in clips}
        write_report(
            self.out / REPORT,
            metrics,
            streamed["model"],
            lambda clip, frames: images[clip.dataset, clip.id].shown(frames),
        )
        return metrics

    def clips(self) -> list[EvaluatedClip]:
        """List the clips to stream.

        Raises:
            ProspectError: bad shards or ids, the same clip twice, or no clip at all.
        """
        return open_clips(self.places, self.video_ids, self.limit)

    def stream(self, clips: Sequence[EvaluatedClip], rows: Sequence[Row], ranks: PartialState) -> Path:
        """Write prediction files of `rows`, all of them when it returns; gives their folder.

        Raises:
            ProspectError: bad checkpoint, frames or settings, or a folder that holds other predictions.
        """
        self.checkpoint = checkpoint_folder(self.checkpoint)
        if self.engine is None:
            streamer = load_streamer(self.checkpoint, self.overrides)
            record, extra = stream_record(self.checkpoint, streamer), streamer.model.prospect_settings.extra
            stream = streaming(streamer, self.streams)
        else:
            video_ids = None if self.video_ids is None else tuple(self.video_ids)
            origin = Origin(self.checkpoint, self.overrides, self.places, video_ids, self.limit)
            spread = Spread(self.engine, origin, self.streams)
            record, extra, stream = spread.record, spread.extra, spread.stream
        if record["memory"] == "none" and "oracle_state" in rows:
            self.notes.append(
                "oracle_state left out: the checkpoint was trained without a memory, and never saw a state"
            )
            self.rows = rows = tuple(row for row in rows if row != "oracle_state")
        trained = trained_rates(self.checkpoint, extra)
        if note := rate_note([one.clip.fps for one in clips], trained):
            self.notes.append(note)
        folder = self.out / PREDICTIONS
        refuse_foreign(self.out, {METRICS: FORMAT, REPORT: MARK})
        with ranks.main_process_first():
            if ranks.is_main_process and self.overwrite:
                remove_folder(folder)
                for name in (METRICS, REPORT):
                    (self.out / name).unlink(missing_ok=True)
            prepare_folder(folder, record)
        again = 0
        for row in rows:
            (folder / row).mkdir(exist_ok=True)
            rank, count = ranks.process_index, ranks.num_processes
            again += stream_clips(stream, clips, row, folder / row, record, self.progress, rank, count)
        ranks.wait_for_everyone()
        if (total := sum(gather_object([again]))) and ranks.is_main_process:
            self.tell(f"note: {folder}: predictions of other annotations, which were streamed again: {total}")
        return folder

    def measure_rows(self, streamed: dict[Row, list[ClipPrediction]], clips: Sequence[Clip]) -> dict[str, Any]:
        """Measure the predictions of each row: what metrics.json holds."""
        embedder = load_embedder(self.embedding)
        if embedder.note:
            self.notes.append(embedder.note)
        unread = _unread(embedder, streamed["model"])
        notes = (embedder.unread_note(dataset, **shares) for dataset, shares in unread.items())
        self.notes += [note for note in notes if note]
        settings = streamed["model"][0].settings
        silent = [_silent(clip, settings) for clip in clips]
        rows: dict[str, Any] = {}
        by_clip: list[ClipScores] = []
        problems: set[str | None] = set()
        with MeteorProcess() as meteor:
            for row, predictions in [*streamed.items(), (SILENT, silent)]:
                self.progress("measuring", len(rows), len(streamed) + 1)
                scores = measure(predictions, embedder.embed)
                together, datasets = pooled(scores, meteor), by_dataset(scores)
                apart = {name: pooled(part, meteor) for name, part in datasets.items()} if len(datasets) > 1 else {}
                rows[row] = {"all": together, "datasets": apart or dict.fromkeys(datasets, together)}
                if row == "model":
                    by_clip = scores
                    self.notes += undefined_notes(together)
                problems.add(together.pop("problem"))
                problems.update(part.pop("problem") for part in apart.values())
        self.notes += sorted(problem for problem in problems if problem)
        metrics = {
            "format": FORMAT,
            "checkpoint": checkpoint_name(self.checkpoint),
            "made": {"date": f"{datetime.now(UTC):%Y-%m-%d}", "commit": revision().commit},
            "data": list(self.places.splits),
            "num_clips": len(clips),
            "num_frames": sum(len(prediction.frames) for prediction in streamed["model"]),
            "settings": {name: value for name, value in settings.items() if name not in ("checkpoint", "row")},
            "scorer": self.scorer,
            "embedder": embedder.name,
            "unread": unread,
            "rows": rows,
            "clips": [
                {
                    "id": one.clip_id,
                    "dataset": one.dataset,
                    "metrics": clip_metrics(one),
                    "speech_pairs": speech_pairs(one),
                }
                for one in by_clip
            ],
        }
        if self.scorer == "proassist":
            from prospect.evaluation.proassist import proassist_scores

            theirs, problem = proassist_scores(streamed["model"], embedder.model)
            metrics["proassist"] = theirs
            self.notes += [problem] if problem else []
        metrics["notes"] = self.notes
        return metrics


def join_ranks() -> PartialState:
    """Join the processes that torchrun started, or this one alone."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=RANKS_WAIT)


def refuse_foreign(out: Path, marks: Mapping[str, str]) -> None:
    """Refuse to write over, or remove, what no command of ours made.

    Args:
        marks: name of a file in `out` -> a text near its beginning, where it is ours.

    Raises:
        ProspectError: such a file is there without its mark.
    """
    for name, mark in marks.items():
        path = out / name
        if path.is_symlink() or (path.exists() and mark.encode() not in beginning(path, 4096)):
            raise ProspectError(f"{path}: is there already, and no evaluation made it; pass another --out")


@contextmanager
def sole_writer(out: Path, ranks: PartialState) -> Iterator[None]:
    """Hold the folder of an evaluation or calibration against others; on the other ranks nothing.

    Raises:
        ProspectError: one is at work there.
    """
    if not ranks.is_main_process:
        yield
        return
    with sole_owner(lock_beside(out), out, "another evaluation or calibration", "pass another --out"):
        yield


def evaluate_contexts(
    model_path: str, data_source: Places, out: Path, *, overrides: Overrides = NO_OVERRIDES, **options: Any
) -> dict[str, dict[str, Any]]:
    """Give the metrics of each overflow policy on the same clips, each in its own folder; {} on the other ranks.

    Without `slide`, and with a line that says why, where the model's keys cannot be moved.
    """
    metrics: dict[str, dict[str, Any]] = {}
    for policy in POLICIES:
        context = replace(overrides, context=policy)
        evaluator = ProspectEvaluator(
            model_path, data_source, out=out / policy, rows=("model",), overrides=context, **options
        )
        try:
            metrics[policy] = evaluator.evaluate()
        except CannotMove as error:
            if join_ranks().is_main_process:
                evaluator.tell(f"note: {policy} is left out: {error}")
    return metrics if all(metrics.values()) else {}


def _unread(embedder: Embedder, predictions: Sequence[ClipPrediction]) -> dict[str, dict[str, float | None]]:
    """By dataset, which share of the tokens of what was `predicted` and of the `reference` the embedder cannot read."""
    unread = {}
    for dataset in sorted({one.clip.dataset for one in predictions}):
        of_dataset = [one for one in predictions if one.clip.dataset == dataset]
        said = [event.text for one in of_dataset for event in predicted_speech(one.frames)]
        expected = [event.text for one in of_dataset for event in reference_speech(one.clip)]
        unread[dataset] = {"predicted": embedder.unread(said), "reference": embedder.unread(expected)}
    return unread


def _silent(clip: Clip, settings: dict[str, Any]) -> ClipPrediction:
    """A stream, of these settings, in which neither head ever fires."""
    frames = range(clip.start_frame, clip.end_frame + 1)
    records = tuple(FrameRecord(f, 0.0, 0.0, (), 0.0, 0.0, 0, 0, False, 0.0) for f in frames)
    return ClipPrediction(clip, records, settings | {"row": SILENT})
