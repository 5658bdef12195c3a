"""`ProspectEvaluator` on a toy checkpoint with random weights: which rows see what, which policies and datasets."""

import fcntl
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pipeline.errors import ProspectError
from pipeline.io.lock import lock_beside
from prospect.commands.app import app
from prospect.data.decode import GREY, decode_frame
from prospect.evaluation.calibrate import calibrate_checkpoint
from prospect.evaluation.embeddings import Embedder
from prospect.evaluation.evaluate import Places, ProspectEvaluator, evaluate_contexts, join_ranks
from prospect.evaluation.judge import fingerprint, read_shown, write_judge
from prospect.evaluation.judge_question import Verdict
from prospect.evaluation.judge_scores import Judge, judged_clip, judged_row
from prospect.evaluation.predictions import read_prediction
from prospect.evaluation.scores import by_dataset, measure
from prospect.evaluation.text_scores import TEXT_SCORES, TextScores
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.stream.context import Context
from prospect.stream.load import Overrides
from prospect.stream.streamer import Streamer
from tests.helpers.fakes import jpeg
from tests.helpers.predictions import letters, prediction

VERDICT = Verdict(analysis="Fine.", correctness=4, promptness=4, efficiency=4, overall=4)


@pytest.fixture(autouse=True)
def quick_scores(monkeypatch):
    """No sentence embedding model, and no Java."""
    scores = TextScores(dict.fromkeys(TEXT_SCORES, 0.25), None)
    monkeypatch.setattr("prospect.evaluation.scores.text_scores", lambda pairs, meteor: scores)
    monkeypatch.setattr(
        "prospect.evaluation.evaluate.load_embedder", lambda name: Embedder(letters, "letters", None, None)
    )


def test_a_blind_row_sees_grey_and_a_row_of_text_no_frame(world, tmp_path, monkeypatch):
    encoded, stepped = [], []
    encode, step = DSTSmolVLM.encode_frames, Streamer.step

    def encode_frames(model, frames):
        encoded.extend(frames)
        return encode(model, frames)

    def one_step(streamer, frame, features, *others):
        stepped.append((frame, len(features)))
        return step(streamer, frame, features, *others)

    monkeypatch.setattr(DSTSmolVLM, "encode_frames", encode_frames)
    monkeypatch.setattr(Streamer, "step", one_step)

    def streamed(row):
        """Frame numbers, features a frame, and the pixels that were encoded."""
        encoded.clear()
        stepped.clear()
        evaluator = world.evaluator(tmp_path / row, limit=1)
        evaluator.stream(evaluator.clips(), [row], join_ranks())
        return [frame for frame, _ in stepped], {count for _, count in stepped}, [*encoded]

    frames, (tokens,), pixels = streamed("model")
    assert frames == list(range(2, 20)) and tokens > 0
    expected = [decode_frame(jpeg(frame), pixels[0].shape[-1], "") for frame in frames]
    assert np.array_equal(torch.stack(pixels).numpy(), np.stack(expected))
    of_blind = streamed("blind")
    assert of_blind[:2] == (frames, {tokens})
    assert len(of_blind[2]) == 18 and all((frame == GREY).all() for frame in of_blind[2])
    assert streamed("text_only") == (frames, {0}, [])


def test_an_evaluation_beside_another_in_its_folder_is_refused(world, tmp_path):
    """attack.md 4"""
    out = tmp_path / "out"
    with lock_beside(out).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for overwrite in (False, True):
            with pytest.raises(ProspectError, match=r"out: another evaluation or calibration is writing here; wait"):
                world.evaluator(out, limit=1, overwrite=overwrite).evaluate()
        with pytest.raises(ProspectError, match=r"out: another evaluation or calibration is writing here; wait"):
            calibrate_checkpoint(str(world.checkpoint), world.places, out, limit=1)
    assert not out.exists()


def test_all_overflow_policies_are_used(world, tmp_path, monkeypatch):
    used = []
    init = Context.__init__

    def spied(context, *arguments):
        init(context, *arguments)
        used.append(context.policy)

    monkeypatch.setattr(Context, "__init__", spied)
    found = evaluate_contexts(
        str(world.checkpoint), world.places, tmp_path / "out", limit=1, overrides=Overrides(max_new_tokens=4)
    )
    policies = ["state_carry", "drop_middle", "drop_all", "slide"]
    assert used == policies == list(found)
    for policy in policies:
        assert found[policy] == json.loads((tmp_path / "out" / policy / "metrics.json").read_text())
        assert found[policy]["settings"]["context"] == policy and set(found[policy]["rows"]) == {
            "model",
            "always_silent",
        }
        (path,) = (tmp_path / "out" / policy / "predictions" / "model").iterdir()
        assert read_prediction(path).settings["context"] == policy


def test_a_judges_scores_stay_with_what_was_judged(world, tmp_path):
    """An evaluation goes on, is made again from the beginning, and then is of other steps."""
    out = tmp_path / "out"
    sure = Overrides(
        max_new_tokens=4, update_threshold=0.9, speak_threshold=0.1, max_actions=1
    )  # untrained, p is near .5
    options = {"limit": 1, "rows": (), "overrides": sure}
    first = world.evaluator(out, **options).evaluate()
    shown = read_shown(out, first, ["model"])
    row = judged_row(fingerprint(shown), [judged_clip(one.clip_id, one.dataset, [VERDICT]) for one in shown])
    write_judge(out, first, Judge("prospect.judge/1", "m", ["h"], [], "t", {}, 1, {"model": row}, []))
    judged = json.loads((out / "metrics.json").read_text())
    for overwrite in (False, True):
        again = world.evaluator(out, overwrite=overwrite, **options).evaluate()
        assert again["judge"] == judged["judge"] == json.loads((out / "metrics.json").read_text())["judge"]
        assert again["rows"]["model"]["all"]["metrics"]["judge_overall"] == 4 and again["notes"] == first["notes"]
        assert "judged by m at h" in (out / "report.html").read_text()
    world.build(dst=[{"id": "S1", "name": "another step"}, {"id": "S2", "name": "one more"}])
    other = world.evaluator(out, **options).evaluate()
    assert "judge" not in other and "judge_overall" not in other["rows"]["model"]["all"]["metrics"]
    assert other["notes"][-1].startswith(
        "the scores of m, which judged these rows, are left out: model (its predictions"
    )
    assert "judged by m" not in (out / "report.html").read_text()


REFERENCE = [(2, "S1->start"), (8, "aab")]


def of_dataset(name, clip_id, actions):
    return prediction(actions, REFERENCE, dataset=name, clip_id=clip_id)


def test_every_dataset_has_its_own_numbers():
    """In `one` the model is right and blind silent, in `two` the other way round, but for one of its two clips."""
    right, silent = REFERENCE, []
    model = [of_dataset("one", "a", right), of_dataset("two", "b", silent), of_dataset("two", "c", right)]
    blind = [of_dataset("one", "a", silent), of_dataset("two", "b", right), of_dataset("two", "c", right)]
    evaluator = ProspectEvaluator("c", Places(()))
    metrics = evaluator.measure_rows({"model": model, "blind": blind}, [one.clip for one in model])

    def recall(row, dataset=None):
        of_row = metrics["rows"][row]
        found = of_row["datasets"][dataset] if dataset else of_row["all"]
        return found["metrics"]["should_update_dst_recall"]

    assert [recall("model", dataset) for dataset in (None, "one", "two")] == [pytest.approx(2 / 3), 1.0, 0.5]
    assert [recall("blind", dataset) for dataset in (None, "one", "two")] == [pytest.approx(2 / 3), 0.0, 1.0]
    assert [recall("always_silent", dataset) for dataset in (None, "one", "two")] == [0.0, 0.0, 0.0]
    assert [(one["id"], one["dataset"]) for one in metrics["clips"]] == [("a", "one"), ("b", "two"), ("c", "two")]
    assert [one["metrics"]["should_update_dst_recall"] for one in metrics["clips"]] == [1.0, 0.0, 1.0]
    assert [one["metrics"]["update_f1_per_second"] for one in metrics["clips"]] == [1.0, 0.0, 1.0]
    of_all = metrics["rows"]["model"]["all"]
    assert of_all["metrics"]["speak_nearest_time_diff_s"] == 30 / 5, "4 moments right, one is 30 s away from any"
    assert of_all["intervals"]["update_f1_per_second"][1] == 1.0
    alone = evaluator.measure_rows({"model": model[:1]}, [model[0].clip])["rows"]["model"]
    assert list(alone["datasets"]) == ["one"] and alone["datasets"]["one"] == alone["all"]


def test_what_is_undefined_is_null_with_a_note():
    """Nothing is said in two of four clips, which is all that is said in (2/4)^4 of the resamples."""
    said, silent = of_dataset("one", "a", REFERENCE), of_dataset("one", "b", [(2, "S1->start")])
    evaluator = ProspectEvaluator("c", Places(()))
    metrics = evaluator.measure_rows({"model": [said, said, silent, silent]}, [said.clip] * 4)
    model = metrics["rows"]["model"]["all"]
    (count,) = {model["undefined_resamples"][name] for name in ("precision", "semantic_score", "time_diff")}
    assert model["metrics"]["precision"] == 1 and model["intervals"]["precision"] is None and 30 < count < 95
    assert metrics["rows"]["always_silent"]["all"]["metrics"]["precision"] is None
    names = ("when_to_speak_precision", "redundant_rate", "semantic_score", "time_diff", "precision")
    assert metrics["notes"] == [
        "undefined, hence null, of what the model wrote: step_completion_30s, step_completion_told_30s, "  # none is due
        "frames_per_s",  # these streams took no time
        "undefined in some of 1000 resamples, which are left out of the interval (none is given beyond 50): "
        + ", ".join(f"{name} {count}" for name in names),
    ]
    evaluator = ProspectEvaluator("c", Places(()))
    notes = evaluator.measure_rows({"model": [of_dataset("one", "a", [])]}, [said.clip])["notes"]
    assert len(notes) == 1 and notes[0].startswith(
        "undefined, hence null, of what the model wrote: should_update_dst_pre"
    )
    assert "semantic_score, time_diff, precision, " in notes[0] and "jaccard_index" not in notes[0]


def test_a_language_that_the_embedder_cannot_read_is_told_by_dataset(monkeypatch):
    """The model `letters` knows a to d: of the one dataset's texts it reads nothing. training.md 6."""
    embedder = Embedder(letters, "letters", SimpleNamespace(tokenizer=SimpleNamespace(
        unk_token="?", tokenize=lambda text: [letter if letter in "abcd" else "?" for letter in text])), None)  # fmt: skip
    monkeypatch.setattr("prospect.evaluation.evaluate.load_embedder", lambda name: embedder)
    model = [of_dataset("one", "a", REFERENCE), prediction([(8, "жж")], [(8, "ж")], dataset="two", clip_id="b")]
    metrics = ProspectEvaluator("c", Places(())).measure_rows({"model": model}, [one.clip for one in model])
    assert metrics["unread"] == {
        "one": {"predicted": 0.0, "reference": 0.0},
        "two": {"predicted": 1.0, "reference": 1.0},
    }
    assert metrics["notes"][0] == (
        "two: letters cannot read 100% of the tokens of what was predicted and 100% of the references' (unknown to it, or single letters): "
        "unlike texts look alike to it, so semantic_score, F1 and all that is matched by meaning say little; pass "
        "--embedding sentence-transformers/paraphrase-multilingual-mpnet-base-v2, or a folder of another multilingual model"
    )
    assert not any("one: " in note for note in metrics["notes"])


def test_scores_are_parted_by_dataset():
    scores = measure([of_dataset("two", "b", []), of_dataset("one", "a", []), of_dataset("two", "c", [])], letters)
    parted = {name: [one.clip_id for one in part] for name, part in by_dataset(scores).items()}
    assert parted == {"one": ["a"], "two": ["b", "c"]}


def test_what_the_command_holds_back_is_in_its_settings(monkeypatch, world, tmp_path):
    asked = []

    class Evaluator:
        def __init__(self, *given, overrides, **more):
            asked.append(overrides.given())

        def evaluate(self):
            return {}

    monkeypatch.setattr("prospect.evaluation.evaluate.ProspectEvaluator", Evaluator)
    common = ["evaluate", "--checkpoint", str(world.checkpoint), "--data", "x/y/z", "--out", str(tmp_path / "out")]
    options = ["--max-new-tokens", "9", "--least-gap", "1.5", "--no-repeat", "3"]
    for more in ([], options):
        done = CliRunner().invoke(app, [*common, *more])
        assert done.exit_code == 0, done.output
    assert asked == [{}, {"max_new_tokens": 9, "least_gap_s": 1.5, "no_repeat": 3}]
