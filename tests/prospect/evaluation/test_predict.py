"""Prediction files: kept, made again, refused, removed."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants

from pipeline.errors import ProspectError
from prospect.evaluation import evaluate
from prospect.evaluation.evaluate import Places, ProspectEvaluator, join_ranks
from prospect.evaluation.predict import prepare_folder, remove_folder, stream_record
from prospect.evaluation.predictions import read_prediction
from prospect.model.presets import make_checkpoint
from prospect.model.side_by_side import Slots
from prospect.stream.load import Overrides, Thresholds, load_streamer
from prospect.stream.streamer import StreamSettings
from tests.helpers.hub import put_in_cache
from tests.helpers.models import TEXTS


def streamed(world, out, **options) -> list[str]:
    """Streams row `model`; what was told."""
    told = []
    evaluator = world.evaluator(out, tell=told.append, **options)
    evaluator.stream(evaluator.clips(), ["model"], join_ranks())
    return told


def files(out):
    return sorted((out / "predictions" / "model").iterdir())


def times(out):
    return [path.stat().st_mtime_ns for path in files(out)]


def test_a_prediction_of_other_annotations_is_made_again(world, tmp_path):
    out = tmp_path / "out"
    assert streamed(world, out) == []
    before = times(out)
    world.build()
    assert streamed(world, out) == [] and times(out) == before, "the same annotations"
    world.build(dst=[{"id": "S1", "name": "Take it"}, {"id": "S2", "name": "Put it there"}])
    assert streamed(world, out, limit=2) == [
        f"note: {out}/predictions: predictions of other annotations, which were streamed again: 2"
    ]
    assert [time == old for time, old in zip(times(out), before, strict=True)] == [False, False, True]
    assert read_prediction(files(out)[0]).clip.steps[1].name == "Put it there"


def test_clips_streamed_side_by_side_are_kept_and_gone_on_with(world, tmp_path, monkeypatch):
    """One clip there already, of two that are left each has a file once it ends; the files are those of one by one."""
    streamer = load_streamer(str(world.checkpoint), Overrides(max_new_tokens=4))  # its heads are drawn: once
    monkeypatch.setattr(evaluate, "load_streamer", lambda *arguments: streamer)
    one_by_one, out = tmp_path / "one", tmp_path / "out"
    streamed(world, one_by_one)
    streamed(world, out, streams=2, limit=1)
    (kept,) = times(out)
    told = []
    evaluator = world.evaluator(out, streams=8, progress=lambda *step: told.append(step))
    evaluator.stream(evaluator.clips(), ["model"], join_ranks())
    assert [step[1:] for step in told] == [(0, 3), (2, 3), (3, 3), (3, 3)]
    assert [path.name for path in files(out)] == [path.name for path in files(one_by_one)] and times(out)[0] == kept
    for path, other in zip(files(out), files(one_by_one), strict=True):
        found, expected = read_prediction(path), read_prediction(other)
        assert (found.clip, found.settings) == (expected.clip, expected.settings)
        for mine, theirs in zip(found.frames, expected.frames, strict=True):
            assert [(a.role, a.text) for a in mine.actions] == [(a.role, a.text) for a in theirs.actions]
            assert (mine.p_update, mine.p_speak) == pytest.approx((theirs.p_update, theirs.p_speak), abs=1e-5)


def test_too_many_streams_for_a_gpus_memory_are_told_in_one_line(world, tmp_path, monkeypatch):
    def full(slots, like, before):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Slots, "_room", full)
    with pytest.raises(ProspectError, match=r"^--streams 2: found too little memory on cpu for so many contexts; pass"):
        streamed(world, tmp_path / "out", streams=2)
    assert files(tmp_path / "out") == []


def test_a_prediction_of_other_settings_or_another_row_is_made_again(world, tmp_path):
    out = tmp_path / "out"
    streamed(world, out)
    path = files(out)[0]
    record = json.loads(path.read_text())
    for changed in ({"row": "blind"}, {"update_threshold": 0.25}):
        path.write_text(json.dumps(record | {"dst": record["dst"] | {"settings": record["dst"]["settings"] | changed}}))
        assert len(streamed(world, out)) == 1
        assert read_prediction(path).settings == record["dst"]["settings"]


def test_an_evaluation_does_not_go_on_in_another_precision_or_layout(world, tmp_path, monkeypatch):
    """training.md 15: the predictions of both were measured together."""
    out = tmp_path / "out"
    load = evaluate.load_streamer
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "load_streamer", lambda *arguments: load(*arguments, dtype="bfloat16"))
        streamed(world, out, limit=1)
    with pytest.raises(
        ProspectError, match=r"made otherwise \(precision: 'bfloat16' there, 'float32' now\); pass --over"
    ):
        streamed(world, out)
    streamed(world, out, overwrite=True)
    monkeypatch.setattr("prospect.evaluation.predict.LAYOUT_VERSION", 0)
    with pytest.raises(
        ProspectError, match=r"made otherwise \(layout: \d+ there, 0 now\); pass --overwrite, or another"
    ):
        streamed(world, out)


def test_an_unreadable_prediction_is_one_line(world, tmp_path):
    out = tmp_path / "out"
    streamed(world, out)
    files(out)[1].write_text("{")
    with pytest.raises(ProspectError, match=r"v1-c000-.*\.json: cannot be read as a prediction .* remove it and"):
        streamed(world, out)


def test_a_clip_that_comes_twice_is_refused(world, tmp_path):
    (split,) = world.places.splits
    twice = Places((split, split), world.places.data_root)
    with pytest.raises(ProspectError, match=r"found clip 'v0-c000' of dataset 'x' twice, expected each once"):
        ProspectEvaluator(str(world.checkpoint), twice, out=tmp_path / "out").clips()
    with pytest.raises(ProspectError, match="found no clips, expected some to evaluate"):
        ProspectEvaluator(str(world.checkpoint), Places(()), out=tmp_path / "out").clips()


SETTINGS = {"context": "state_carry", "update_threshold": 0.5, "weights": "0" * 64}


@pytest.mark.parametrize("text", [None, "[]", "{", "3"])
def test_predictions_of_settings_that_are_lost_are_refused(tmp_path, text):
    prepare_folder(tmp_path / "p", SETTINGS)
    prepare_folder(tmp_path / "p", SETTINGS)
    (tmp_path / "p" / "settings.json").unlink()
    if text is not None:
        (tmp_path / "p" / "settings.json").write_text(text)
    else:
        (tmp_path / "p" / "settings.json.1.partial").write_text("{")  # killed before anything was predicted
        prepare_folder(tmp_path / "p", SETTINGS)
        (tmp_path / "p" / "settings.json").unlink()
    (tmp_path / "p" / "model").mkdir()
    (tmp_path / "p" / "model" / "a.json").write_text("{}")
    for refused in (lambda: prepare_folder(tmp_path / "p", SETTINGS), lambda: remove_folder(tmp_path / "p")):
        with pytest.raises(ProspectError, match=r"p: found files, but no settings\.json of an evaluation; move the"):
            refused()
    assert (tmp_path / "p" / "model" / "a.json").exists()


def test_results_that_no_evaluation_made_are_kept(world, tmp_path):
    """attack.md 5: `evaluate --overwrite` removed whatever lay in the way of its results."""
    out = tmp_path / "out"
    for name in ("metrics.json", "report.html"):
        out.mkdir(exist_ok=True)
        (out / name).write_text("mine")
        for overwrite in (False, True):
            with pytest.raises(ProspectError, match=rf"{name}: is there already, and no evaluation made it"):
                streamed(world, out, overwrite=overwrite)
        assert (out / name).read_text() == "mine"
        (out / name).unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "settings.json").write_text('{"weights": 1}')
    (out / "predictions").symlink_to(elsewhere)
    for overwrite in (False, True):
        with pytest.raises(ProspectError, match=r"out/predictions: found a link, expected a folder, .*; remove it, or"):
            streamed(world, out, overwrite=overwrite)
    assert [path.name for path in elsewhere.iterdir()] == ["settings.json"]


def test_overwrite_removes_all_results_before_it_predicts(world, tmp_path, monkeypatch):
    out = tmp_path / "out"
    streamed(world, out)
    settings = json.loads((out / "predictions" / "settings.json").read_text())
    (out / "predictions" / "settings.json").write_text(json.dumps(settings | {"context": "other"}))
    for name, start in (
        ("metrics.json", '{"format": "prospect.evaluation/1"}'),
        ("report.html", "PROSPECT evaluation"),
    ):
        (out / name).write_text(start)
    with pytest.raises(ProspectError, match="pass --overwrite"):
        streamed(world, out)

    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("prospect.evaluation.evaluate.stream_clips", stopped)
    with pytest.raises(KeyboardInterrupt):
        streamed(world, out, overwrite=True)
    assert [path.name for path in out.rglob("*") if path.is_file()] == ["settings.json"]


def test_a_removal_that_is_killed_leaves_nothing_that_is_taken_up(world, tmp_path, monkeypatch):
    out = tmp_path / "out"
    streamed(world, out)

    def killed(path):
        (path / "settings.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_folder(out / "predictions")
    assert not (out / "predictions").exists()
    streamed(world, out)
    remove_folder(out / "predictions")
    assert list(out.iterdir()) == []


def test_every_rank_streams_its_own_clips_only(world, tmp_path):
    """Of three clips the first of two ranks has the first and the last."""
    evaluator = world.evaluator(tmp_path / "out")
    clips = evaluator.clips()
    for rank, videos in ((1, ["v1"]), (0, ["v0", "v1", "v2"])):
        ranks = join_ranks()
        of_rank = SimpleNamespace(
            process_index=rank,
            num_processes=2,
            is_main_process=rank == 0,
            main_process_first=ranks.main_process_first,
            wait_for_everyone=ranks.wait_for_everyone,
        )
        evaluator.stream(clips, ["model"], of_rank)
        assert [read_prediction(path).clip.video_uid for path in files(tmp_path / "out")] == videos


OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def published(world, tmp_path, monkeypatch):
    """Gives a function that makes a revision of Some/Model the main one, with weights and thresholds of its own."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)

    def publish(commit, seed, threshold):
        shutil.rmtree(tmp_path / "made", ignore_errors=True)
        folder = make_checkpoint("toy", tmp_path / "made", TEXTS, seed)
        Thresholds(threshold, threshold, {}).save(folder)
        return put_in_cache(tmp_path / "hub", "Some/Model", commit, folder)

    return publish


def test_predictions_are_those_of_one_revision_of_a_hub_id(world, published, tmp_path):
    """And the thresholds that stand beside its weights are used."""
    published(OLD, 1, 0.25)
    world.checkpoint = "Some/Model"
    out = tmp_path / "out"
    streamed(world, out, limit=1)
    (prediction,) = map(read_prediction, files(out))
    assert prediction.settings["checkpoint"] == f"Some/Model@{OLD}"
    assert prediction.settings["update_threshold"] == prediction.settings["speak_threshold"] == 0.25
    published(NEW, 2, 0.25)
    weights = r"weights: '\w{16}' there, '\w{16}' now"
    with pytest.raises(
        ProspectError,
        match=rf"made otherwise \(checkpoint: 'Some/Model@{OLD}' there, 'Some/Model@{NEW}' now; {weights}\)",
    ):
        streamed(world, out, limit=1)
    world.checkpoint = f"Some/Model@{OLD}"
    before = times(out)
    assert streamed(world, out, limit=1) == [] and times(out) == before


def test_an_adapters_predictions_depend_on_its_base_too(world, tmp_path):
    def record(seed):
        shutil.rmtree(tmp_path / "base", ignore_errors=True)
        base = make_checkpoint("toy", tmp_path / "base", TEXTS, seed)
        shutil.rmtree(tmp_path / "adapter", ignore_errors=True)
        adapter = shutil.copytree(world.checkpoint, tmp_path / "adapter")
        lora = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "base_model_name_or_path": str(base)}
        (adapter / "adapter_config.json").write_text(json.dumps(lora))
        streamer = SimpleNamespace(settings=StreamSettings(), model=SimpleNamespace(dtype="float32"))
        return stream_record(str(adapter), streamer)["weights"]

    assert len({record(1), record(2), record(2)}) == 2


@pytest.mark.parametrize("change", [{"max_new_tokens": 3}, {"least_gap_s": 1.5}, {"no_repeat": 2}])
def test_how_speech_is_held_back_is_not_mixed(world, tmp_path, change):
    out = tmp_path / "out"
    streamed(world, out, limit=1)
    ((name, value),) = change.items()
    with pytest.raises(ProspectError, match=rf"made otherwise \({name}: .* there, {value} now\)"):
        streamed(world, out, limit=1, overrides=Overrides(**{"max_new_tokens": 4} | change))


def test_clips_of_a_rate_that_was_not_trained_are_noted(world, tmp_path):
    checkpoint = shutil.copytree(world.checkpoint, tmp_path / "checkpoint")
    config = json.loads((checkpoint / "config.json").read_text())
    world.checkpoint = checkpoint

    def notes(rates):
        (checkpoint / "config.json").write_text(json.dumps(config | {"prospect": {"fps": rates}}))
        evaluator = world.evaluator(tmp_path / f"out{rates[0]}", limit=1)
        evaluator.stream(evaluator.clips(), ["model"], join_ranks())
        return evaluator.notes

    assert notes([2, 10]) == []
    (note,) = notes([4])
    assert note.startswith("frames at 2 a second, and the checkpoint was trained on 4: ")
