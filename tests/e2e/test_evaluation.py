"""`prospect evaluate`, `calibrate` and `stream` on a run of a few steps: what is there, not how good it is."""

import json
import re
import shutil
import time
from pathlib import Path

import pytest

from prospect.evaluation.predictions import read_prediction
from tests.helpers.command import TINY, fail, run, succeed, torchrun
from tests.helpers.fakes import jpeg
from tests.helpers.videos import video

ACTS = ("--update-threshold", 0.2, "--speak-threshold", 0.2, "--max-actions", 1)


@pytest.fixture(scope="module")
def model(trained, toy):
    """The run's folder in a place of its own: calibration writes into a checkpoint."""
    copy = toy / "runs" / "evaluated"
    shutil.copytree(trained, copy)
    return copy


@pytest.fixture(scope="module")
def evaluated(model, toy) -> Path:
    out = succeed(toy, "evaluate", "--checkpoint", model, "--limit", 3, *ACTS)
    for name in ("should_update_dst_f1", "joint_state_accuracy", "always silent", "oracle state", "text only", "blind"):
        assert name in out
    assert "note: sentence embeddings: all-minilm in place of sentence-transformers/all-mpnet-base-v2" in out
    return model / "evaluation" / "test"


def test_every_clip_and_row_has_a_prediction_in_proassists_layout(evaluated):
    metrics = json.loads((evaluated / "metrics.json").read_text())
    assert metrics["num_clips"] == 3 and metrics["settings"]["update_threshold"] == 0.2
    assert set(metrics["rows"]) == {"model", "blind", "text_only", "oracle_state", "always_silent"}
    assert metrics["rows"]["oracle_state"]["all"]["metrics"]["dst_update_f1"] == 1.0
    assert metrics["rows"]["oracle_state"]["all"]["metrics"]["joint_state_accuracy"] == 1.0
    assert metrics["rows"]["oracle_state"]["all"]["metrics"]["step_completion_30s"] == 1.0
    assert metrics["rows"]["always_silent"]["all"]["metrics"]["recall"] == 0.0
    assert (evaluated / "report.html").read_text().count("data:image/jpeg;base64,") > 3
    for row in ("model", "blind", "text_only", "oracle_state"):
        files = sorted((evaluated / "predictions" / row).iterdir())
        assert len(files) == 3
        record = json.loads(files[0].read_text())
        assert list(record) == ["metadata", "predictions", "dst"]
        assert set(record["predictions"][0]) == {
            "gen", "ref", "text_inputs", "frame_idx_in_stream", "frame_idx_in_original_video", "timestamp_in_stream",
        }  # fmt: skip
        prediction = read_prediction(files[0])
        assert (
            len(prediction.frames)
            == len(record["predictions"])
            == prediction.clip.end_frame - prediction.clip.start_frame + 1
        )
    assert any(frame["gen"] for frame in json.loads(files[0].read_text())["predictions"]), "it does act"


def test_an_interrupted_evaluation_goes_on_where_it_was(evaluated, model, toy):
    first, second, third = sorted((evaluated / "predictions" / "model").iterdir())
    before = (evaluated / "metrics.json").read_text()
    made, kept = [second.read_bytes(), third.read_bytes()], first.stat().st_mtime_ns
    second.unlink()
    record = json.loads(third.read_text())
    record["dst"]["clip"]["steps"][0]["name"] = "as it was annotated before"
    third.write_text(json.dumps(record))
    out = succeed(toy, "evaluate", "--checkpoint", model, "--limit", 3, *ACTS)
    assert "predictions of other annotations, which were streamed again: 1\n" in out
    assert first.stat().st_mtime_ns == kept, "not streamed again"
    for text, again in zip(made, (second.read_bytes(), third.read_bytes()), strict=True):
        assert re.sub(rb'"seconds": [^\n]+', b"", text) == re.sub(rb'"seconds": [^\n]+', b"", again)
    strip = lambda text: re.sub(r'"frames_per_s": [^\n]+', "", text)  # noqa: E731
    assert strip((evaluated / "metrics.json").read_text()) == strip(before)


def test_other_settings_are_not_mixed_in(evaluated, model, toy):
    message = fail(toy, "evaluate", "--checkpoint", model, "--limit", 3, "--update-threshold", 0.3)
    assert "holds predictions made otherwise" in message
    assert "update_threshold: 0.2 there, 0.3 now" in message and "pass --overwrite, or another --out" in message


def test_two_processes_share_the_clips_and_stream_two_at_a_time(model, toy):
    common = ("evaluate", "--checkpoint", model, "--limit", 3, "--streams", 2, "--rows", "", "--out", toy / "shared")
    done = torchrun(toy, *common, *ACTS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("clips, ") == 1, "the main process alone prints"
    assert len(list((toy / "shared" / "predictions" / "model").iterdir())) == 3


@pytest.mark.parametrize("command", ["evaluate", "calibrate", "cache-features"])
def test_workers_that_cannot_be_had_are_told(command, model, toy, monkeypatch):
    words = (command, *(TINY if command == "cache-features" else ("--checkpoint", model)))
    message = fail(toy, *words, "--engine", "ray", "--ray-address", "127.0.0.1:1")
    assert "--ray-address 127.0.0.1:1: cannot connect to Ray" in message and message.count("\n") == 1
    assert "--ray-address: has no effect without --engine ray" in fail(toy, *words, "--ray-address", "auto")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for options in (("--engine", "ray"), ("--workers", 2)):
        message = fail(toy, *words, *options)
        assert "torchrun started 2 processes, which share the work already; leave these options out" in message


def test_an_evaluation_for_programs(model, toy):
    common = ("evaluate", "--checkpoint", model, "--limit", 1, "--rows", "", "--out", toy / "programs")
    metrics = json.loads(succeed(toy, *common, *ACTS, "--json"))
    assert metrics == json.loads((toy / "programs" / "metrics.json").read_text())


def test_videos_are_chosen_by_id(model, toy):
    out = succeed(toy, "evaluate", "--checkpoint", model, "--video-ids", "toy-test-0-00001", "--rows", "", "--out", toy / "one", *ACTS)  # fmt: skip
    assert re.search(r"[12] clips, \d+ frames, streamed", out)
    message = fail(toy, "evaluate", "--checkpoint", model, "--video-ids", "nobody", "--out", toy / "none")
    assert "--video-ids: found nobody, expected videos (or clips) of the split, such as toy-test-0-0000" in message


def test_overflow_policies_are_compared_on_the_same_clips(model, toy):
    out = succeed(
        toy, "evaluate", "--checkpoint", model, "--limit", 2, "--context", "all", "--max-seq-len", 450, "--out",
        toy / "contexts", *ACTS,
    )  # fmt: skip
    for name in ("state carry", "drop middle", "drop all", "slide", "computed_tokens_per_frame", "num_restarts"):
        assert name in out
    restarts = [
        json.loads((toy / "contexts" / policy / "metrics.json").read_text())["rows"]["model"]["all"]["metrics"][
            "num_restarts"
        ]
        for policy in ("state_carry", "drop_middle", "drop_all", "slide")
    ]
    assert all(count > 0 for count in restarts)


def test_thresholds_are_found_stored_and_used(model, toy):
    out = succeed(toy, "calibrate", "--checkpoint", model, "--limit", 3, "--confirm", 2, "--streams", 3)
    stored = json.loads((model / "checkpoints" / "checkpoint-6" / "thresholds.json").read_text())
    assert "note: should_update_dst: found on " in out and "are the least that say something of others" in out
    assert "thresholds.json" in out and len(stored["calibrated_on"]["tried"]) == 2
    best = stored["calibrated_on"]["tried"][0]
    assert best["mean"] == max(pair["mean"] for pair in stored["calibrated_on"]["tried"])
    assert (stored["update_threshold"], stored["speak_threshold"]) == (
        best["update_threshold"],
        best["speak_threshold"],
    )
    assert "PROSPECT calibration" in (model / "calibration" / "val" / "reliability.html").read_text()
    succeed(toy, "evaluate", "--checkpoint", model, "--limit", 1, "--rows", "", "--out", toy / "calibrated")
    used = json.loads((toy / "calibrated" / "metrics.json").read_text())["settings"]
    assert used["update_threshold"] == best["update_threshold"] and used["speak_threshold"] == best["speak_threshold"]
    (model / "checkpoints" / "checkpoint-6" / "thresholds.json").write_text("{}")
    assert "thresholds.json: update_threshold: found nothing, expected it" in fail(
        toy, "calibrate", "--checkpoint", model, "--limit", 1
    )
    (model / "checkpoints" / "checkpoint-6" / "thresholds.json").unlink()


def test_wrong_input_to_evaluate_is_named(model, toy):
    assert "found no such folder, expected a checkpoint's folder, a run's, or a hub id" in fail(toy, "evaluate", "--checkpoint", "./no", "--data", "shards/toyworld/test")  # fmt: skip
    plain = toy / "plain"
    shutil.copytree(model / "checkpoints" / "checkpoint-6", plain)
    assert "stands in no run that would say which data" in fail(toy, "evaluate", "--checkpoint", plain)
    assert "found no finished shards" in fail(toy, "evaluate", "--checkpoint", plain, "--data", "shards/x/test")
    assert "--rows: found nothing_known" in fail(toy, "evaluate", "--checkpoint", model, "--rows", "nothing_known")
    assert "scorer 'proassist': ProAssist's package mmassist cannot be imported" in fail(
        toy, "evaluate", "--checkpoint", model, "--limit", 1, "--rows", "", "--scorer", "proassist", "--out", toy / "p"
    )


def test_evaluation_from_python(model, toy, tmp_path, monkeypatch):
    from prospect.evaluation.evaluate import Places, ProspectEvaluator

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    places = Places((str(toy / "shards" / "toyworld" / "test"),), toy / "data" / "toy")
    video_ids = ["toy-test-0-00000"]
    evaluator = ProspectEvaluator(str(model), places, video_ids, out=tmp_path, rows=())
    metrics = evaluator.evaluate()
    assert metrics == json.loads((tmp_path / "metrics.json").read_text())
    assert {clip["id"].rsplit("-", 1)[0] for clip in metrics["clips"]} == set(video_ids)


# Live


def test_a_stream_of_an_annotated_clip(model, toy, tmp_path):
    frames = toy / "data" / "toy" / "toyworld" / "frames" / "toy-test-0-00000.arrow"
    clip = f"{toy}/data/toy/toyworld/test_training.json#0"
    out = succeed(
        toy, "stream", frames, "--checkpoint", model, "--clip", clip, "--out", tmp_path / "run.jsonl", "--video",
        tmp_path / "out.mp4", *ACTS,
    )  # fmt: skip
    assert re.search(r"^0:\d\d\.\d  User: ", out, re.M) and "frames/s" in out
    header, *records = map(json.loads, (tmp_path / "run.jsonl").read_text().splitlines())
    assert header["settings"]["update_threshold"] == 0.2 and len(header["steps"]) >= 3
    assert [record["frame"] for record in records] == list(range(len(records))) and len(records) >= 40
    import av

    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == len(records)


def test_a_stream_of_images_and_of_a_video_with_a_script(model, toy, tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(12):
        (tmp_path / "images" / f"f{number}.jpg").write_bytes(jpeg(number))
    (tmp_path / "steps.txt").write_text("S1: Take the red wheel\n")
    (tmp_path / "script.txt").write_text("1.0 Hello there\n")
    common = ("--checkpoint", model, "--steps", tmp_path / "steps.txt", "--script", tmp_path / "script.txt", *ACTS)
    assert "0:01.0  User: Hello there" in succeed(toy, "stream", tmp_path / "images", *common)
    film = video(tmp_path / "v.mp4", 3)
    began = time.monotonic()
    out = succeed(toy, "stream", film, *common, "--realtime")
    assert "6 frames" in out and "missed deadlines" in out and time.monotonic() - began > 2.5
    done = run(toy, "stream", tmp_path / "images", "--checkpoint", model, *ACTS)
    assert "a task without steps, speech alone" in done.stdout and "DST" not in done.stdout


def test_a_stream_that_breaks_off_keeps_what_was_done(model, toy, tmp_path):
    for number in range(3):
        (tmp_path / f"f{number}.jpg").write_bytes(jpeg(number) if number < 2 else b"broken")
    message = fail(toy, "stream", tmp_path, "--checkpoint", model, "--out", tmp_path / "run.jsonl", "--video", tmp_path / "o.mp4")  # fmt: skip
    assert "frame 2: cannot be decoded" in message
    assert len((tmp_path / "run.jsonl").read_text().splitlines()) == 3 and not (tmp_path / "o.mp4").exists()
    assert "no such file or folder" in fail(toy, "stream", tmp_path / "no.mp4", "--checkpoint", model)
    (tmp_path / "text.mp4").write_text("no video")
    assert "expected a whole video" in fail(toy, "stream", tmp_path / "text.mp4", "--checkpoint", model)
    assert "found neither config.json nor checkpoints/" in fail(toy, "stream", tmp_path, "--checkpoint", tmp_path)
    before = (tmp_path / "text.mp4").read_text()
    for option in ("--out", "--video"):
        message = fail(toy, "stream", tmp_path / "text.mp4", "--checkpoint", model, option, tmp_path / "text.mp4")
        assert "text.mp4: is what the command reads" in message and (tmp_path / "text.mp4").read_text() == before
