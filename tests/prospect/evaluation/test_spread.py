"""Clips streamed by the workers of an engine: what one process streams, and what is not alike is refused."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
from huggingface_hub import constants

from pipeline.errors import ProspectError
from pipeline.io.engine import LocalEngine
from pipeline.io.ray_engine import RayWorkers
from prospect.evaluation import evaluate, spread
from prospect.evaluation.calibrate import calibrate_checkpoint
from prospect.evaluation.embeddings import Embedder
from prospect.evaluation.evaluate import join_ranks
from prospect.evaluation.predict import Places
from prospect.evaluation.predictions import read_prediction
from prospect.evaluation.spread import Origin, Spread
from prospect.evaluation.text_scores import TEXT_SCORES, TextScores
from prospect.stream.load import Overrides
from tests.helpers.hub import put_in_cache
from tests.helpers.predictions import letters
from tests.helpers.streams import assert_same

SHORT = Overrides(max_new_tokens=4)


@pytest.fixture(scope="module")
def ray():
    with RayWorkers(2) as engine:
        yield engine


@pytest.fixture(autouse=True)
def alike(monkeypatch):
    """This process draws the heads that the toy lacks as workers do, and keeps nothing of a worker's for the next test.

    No sentence embedding model, and no Java.
    """
    load = evaluate.load_streamer

    def seeded(*arguments):
        torch.manual_seed(0)
        return load(*arguments)

    monkeypatch.setattr(evaluate, "load_streamer", seeded)
    scores = TextScores(dict.fromkeys(TEXT_SCORES, 0.25), None)
    monkeypatch.setattr("prospect.evaluation.scores.text_scores", lambda pairs, meteor: scores)
    monkeypatch.setattr(evaluate, "load_embedder", lambda name: Embedder(letters, "letters", None, None))
    yield
    spread._kept.clear()
    spread._clips.cache_clear()


def untimed(folder):
    """Prediction files, by row and name, but for how long frames took."""
    files = sorted(folder.glob("predictions/*/*.json"))
    return {f"{path.parent.name}/{path.name}": re.sub(r'"seconds": [^\n]+', "", path.read_text()) for path in files}


def model_row(out):
    return sorted((out / "predictions" / "model").iterdir())


def test_ray_gives_the_files_and_metrics_of_one_process(world, tmp_path, ray):
    told = []
    here = world.evaluator(tmp_path / "here", rows=("blind",)).evaluate()
    by_ray = world.evaluator(tmp_path / "ray", rows=("blind",), engine=ray, progress=lambda *step: told.append(step))
    there = by_ray.evaluate()
    files = untimed(tmp_path / "here")
    assert len(files) == 6 and any('"role": "assistant"' in text for text in files.values()), "something is said"
    assert untimed(tmp_path / "ray") == files
    without_rates = [re.sub(r'"frames_per_s": [^\n]+', "", json.dumps(m, indent=1)) for m in (here, there)]
    assert without_rates[0] == without_rates[1]
    assert told[:4] == [("streaming (model)", done, 3) for done in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ray", "local"])
def test_workers_go_on_where_one_process_was_interrupted(world, tmp_path, ray, name):
    """And two clips side by side are those of one by one."""
    out, told = tmp_path / "out", []
    world.evaluator(out, rows=()).evaluate()
    before = {path: read_prediction(path) for path in model_row(out)}
    first, second, third = before
    kept = first.stat().st_mtime_ns
    second.unlink()
    record = json.loads(third.read_text())
    record["dst"]["clip"]["steps"][0]["name"] = "as it was annotated before"
    third.write_text(json.dumps(record))
    with LocalEngine(2) as local:
        engine = {"ray": ray, "local": local}[name]
        evaluator = world.evaluator(out, rows=(), streams=2, engine=engine, tell=told.append)
        evaluator.stream(evaluator.clips(), ["model"], join_ranks())
    assert told == [f"note: {out}/predictions: predictions of other annotations, which were streamed again: 1"]
    assert first.stat().st_mtime_ns == kept
    found = {path: read_prediction(path) for path in model_row(out)}
    assert [(one.clip, one.settings) for one in found.values()] == [(o.clip, o.settings) for o in before.values()]
    assert_same(*({path: one.frames for path, one in each.items()} for each in (found, before)))


@pytest.mark.slow
def test_ray_finds_the_thresholds_of_one_process(world, tmp_path, ray):
    found = []
    for engine in (None, ray):
        checkpoint = shutil.copytree(world.checkpoint, tmp_path / str(engine is None) / "checkpoint")
        out = tmp_path / str(engine is None) / "out"
        found.append(calibrate_checkpoint(str(checkpoint), world.places, out, limit=2, confirm=2, engine=engine))
    assert len(found[0].tried) == 2
    assert replace(found[0], stored=found[1].stored) == found[1]


def in_this_process(world, **changes):
    """What workers do, done here, where it can be looked at."""
    origin = Origin(str(world.checkpoint), SHORT, world.places, None, None)
    return Spread(LocalEngine(1), replace(origin, **changes), streams=1)


def test_a_worker_that_would_stream_otherwise_is_named(world, tmp_path):
    clips = world.evaluator(tmp_path / "out").clips()
    spread = in_this_process(world)
    spread.record = spread.record | {"precision": "bfloat16"}
    with pytest.raises(
        ProspectError, match=r"toy: would be .* by one of the workers \(precision: 'float32' there, 'bfloat16' elsewhe"
    ):
        list(spread.stream(clips, "model"))


def test_a_worker_with_other_shards_is_named(world, tmp_path):
    clips = world.evaluator(tmp_path / "out").clips()
    other = replace(clips[1], clip=replace(clips[1].clip, goal="something else"))
    streamed = in_this_process(world).stream([clips[0], other], "text_only")
    assert next(streamed)[0] is clips[0]
    for stream in (streamed, in_this_process(world, limit=1).stream(clips[1:], "text_only")):
        with pytest.raises(ProspectError, match=r"^clip 'v1-c000': is not the same in the shards that one of the work"):
            next(stream)


def test_a_worker_finds_a_revision_in_a_cache_of_its_own(world, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    snapshot = put_in_cache(tmp_path / "hub", "Some/Model", "a" * 40, world.checkpoint)
    elsewhere = tmp_path / "elsewhere" / snapshot.relative_to(tmp_path)
    assert in_this_process(world, checkpoint=str(elsewhere)).record["checkpoint"] == f"Some/Model@{'a' * 40}"
    with pytest.raises(ProspectError, match=r"found no such folder, expected a checkpoint's folder"):
        in_this_process(world, checkpoint=str(tmp_path / "none"))


def test_what_a_checkpoint_warns_of_is_told_here(world, tmp_path):
    checkpoint = shutil.copytree(world.checkpoint, tmp_path / "checkpoint")
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"prospect": {"packing": "turn"}}))
    with pytest.warns(UserWarning, match="was trained on turn packing"):
        assert in_this_process(world, checkpoint=str(checkpoint)).extra == {"packing": "turn"}


def test_a_mistake_in_the_shards_arrives_as_it_is(world, tmp_path, ray):
    places = Places(world.places.splits, tmp_path / "nowhere")
    with pytest.raises(ProspectError, match=r"'frames/v0\.arrow' not found"):
        list(Spread(ray, Origin(str(world.checkpoint), SHORT, places, None, None), 1).stream(
            world.evaluator(tmp_path / "out").clips(), "model"
        ))  # fmt: skip
