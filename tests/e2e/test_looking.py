"""inspect-shard and audit as a user calls them, on shards here, on S3 and behind HTTP."""

import functools
import http.server
import json
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.command import PROSPECT, fail, run, succeed

TOY = ("--config", "toy")


@pytest.fixture(scope="module")
def website(toy: Path):
    """The toy world's shards behind HTTP."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=toy / "shards")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_json_has_a_line_a_sample(toy):
    lines = succeed(toy, "inspect-shard", "shards/toyworld/val", "--json").splitlines()
    records = [json.loads(line) for line in lines]
    manifest = json.loads((toy / "shards" / "toyworld" / "val" / "manifest.json").read_text())
    assert len(records) == manifest["num_samples"]
    assert {r["kind"] for r in records} == {"dst_update", "assistant", "silent"} and all(r["key"] for r in records)


def test_the_list_has_forty_rows_under_the_ids_of_their_clips_and_a_number_opens_a_sample(toy):
    split = "shards/toyworld/train"
    shown = run(toy, "inspect-shard", split, columns=80).stdout
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80 and "toy-train-0-00000-c000" in lines
    assert sum(line.startswith("#") and line[1].isdigit() for line in lines) == 40
    count = json.loads((toy / split / "manifest.json").read_text())["num_samples"]
    assert f"the first 40 of {count} samples; --limit 0 lists all" in shown
    every = run(toy, "inspect-shard", split, "--limit", 0).stdout
    assert f"{count} samples in " in every and f"#{count - 1} " in every
    rows = [json.loads(line) for line in run(toy, "inspect-shard", split, "--json").stdout.splitlines()]
    for key in (17, "#17", rows[17]["key"]):
        record = json.loads(run(toy, "inspect-shard", split, "--key", key).stdout)
        assert (record["clip"]["id"], record["sample_idx"]) == (rows[17]["clip"], int(rows[17]["key"][-4:]))
    assert "names no sample" in fail(toy, "inspect-shard", split, "--key", count)


def test_the_list_is_of_one_clip_or_kind(toy):
    arguments = ("inspect-shard", "shards/toyworld/train", "--json")
    rows = [json.loads(line) for line in succeed(toy, *arguments).splitlines()]
    clip = rows[-1]["clip"]
    chosen = succeed(toy, *arguments, "--clip", clip, "--kind", "assistant").splitlines()
    expected = [row for row in rows if row["clip"] == clip and row["kind"] == "assistant"]
    assert [json.loads(line) for line in chosen] == expected and expected
    assert [json.loads(line) for line in succeed(toy, *arguments, "--limit", 3).splitlines()] == rows[:3]
    shown = succeed(toy, *arguments[:2], "--clip", clip, "--kind", "assistant")
    assert f"{len(expected)} samples in " in shown


def test_statistics(toy):
    found = json.loads(succeed(toy, "inspect-shard", "shards/toyworld/val", "--stats", "--json"))
    manifest = json.loads((toy / "shards" / "toyworld" / "val" / "manifest.json").read_text())
    assert (found["kinds"], found["clips"]) == (manifest["kinds"], manifest["num_clips"])
    shown = succeed(toy, "inspect-shard", "shards/toyworld/val/val-000000.tar", "--stats")
    assert "silence ratio" in shown and "updates a clip" in shown and "█" in shown


def test_the_tokens_of_a_sample(toy):
    arguments = ("inspect-shard", "shards/toyworld/train", "--key", "-c000-88b810cc-0000", "--tokens", *TOY)
    shown = succeed(toy, *arguments)
    assert "prompt     <|im_start|>│System" in shown and ": 1 x <image>] (0,1) speak" in shown
    assert "\nDST        DST│:«" in shown and "(1,0) update" in shown and "\x1b" not in shown
    told = succeed(toy, *arguments, "--html", "tokens.html")
    assert "tokens written to tokens.html" in told and (toy / "tokens.html").read_text().startswith("<!doctype html>")
    assert "pass --tokens too" in fail(toy, *arguments[:4], "--html", "tokens.html")
    rows = json.loads(succeed(toy, *arguments, "--json"))
    assert [row["position"] for row in rows] == list(range(len(rows))) and rows[0]["text"] == "<|im_start|>"


def test_verify(toy):
    assert "no problems" in succeed(toy, "inspect-shard", "shards/toyworld/val", "--verify", "--data-root", "data/toy")
    assert "no problems" in succeed(
        toy, "inspect-shard", "shards/toyworld/val/val-000000.tar", "--verify", "--data-root", "data/toy"
    )
    val = ("inspect-shard", "shards/toyworld/val", "--verify", "--json", "--data-root")
    manifest = json.loads((toy / "shards" / "toyworld" / "val" / "manifest.json").read_text())
    verified = json.loads(succeed(toy, *val, "data/toy"))
    assert (verified["samples"], verified["problems"]) == (manifest["num_samples"], [])
    assert json.loads(run(toy, *val, "nowhere").stdout)["problems"][0]["field"] == "frames.file"
    message = fail(toy, "inspect-shard", "shards/toyworld/val", "--verify", "--data-root", "nowhere")
    assert "frames.file: found 'frames/toy-val" in message and "build broken shards again with --force" in message


def test_questions_that_do_not_go_together(toy):
    assert "--tokens: shows one sample; pass its --key too" in fail(
        toy, "inspect-shard", "shards/toyworld/val", "--tokens", *TOY
    )
    assert "--storyboard: shows one" in fail(toy, "inspect-shard", "shards/toyworld/val", "--storyboard", "x.png")
    assert "--frames: shows one" in fail(toy, "inspect-shard", "shards/toyworld/val", "--frames", "x.png")
    message = fail(toy, "inspect-shard", "shards/toyworld/val", "--stats", "--verify")
    assert "--stats and --verify: pass one of them" in message


def test_a_url_works_as_a_path_does(toy, website):
    here = succeed(toy, "inspect-shard", "shards/toyworld/val", "--json")
    assert succeed(toy, "inspect-shard", f"{website}/toyworld/val", "--json") == here
    assert succeed(toy, "inspect-shard", f"{website}/toyworld/val/val-000000.tar", "--json") == here
    assert "no problems" in succeed(
        toy, "inspect-shard", f"{website}/toyworld/val", "--verify", "--data-root", "data/toy"
    )
    key = json.loads(here.splitlines()[3])["key"]
    succeed(
        toy,
        "inspect-shard",
        f"{website}/toyworld/val/val-000000.tar",
        "--key",
        key,
        "--frames",
        "url.png",
        "--data-root",
        "data/toy",
    )
    with Image.open(toy / "url.png") as sheet:
        assert sheet.size[0] >= 640
    assert f"{website}/toyworld/none.tar: no such file" in fail(toy, "inspect-shard", f"{website}/toyworld/none.tar")
    assert "expected the shards of a finished build" in fail(toy, "inspect-shard", f"{website}/toyworld")
    assert "bogus://x: cannot be opened" in fail(toy, "inspect-shard", "bogus://x/y.tar")


def test_the_storyboard_of_a_clip(toy, tmp_path):
    """From the frames file, and, where that is gone, from images in the shard."""
    arguments = ("--key", 2, "--data-root", "data/toy", "--storyboard")
    told = succeed(toy, "inspect-shard", "shards/toyworld/val", *arguments, tmp_path / "a.png", "--json")
    assert json.loads(told)["clip"]["id"] == "toy-val-0-00000-c000", "what is drawn is told on the other stream"
    build = ("build-shards", "--split", "val", "--data-root", "data/toy", "--embed-frames")
    succeed(toy, *build, "--out", tmp_path / "embedded")
    arguments = ("--key", 2, "--data-root", tmp_path, "--storyboard")
    shown = succeed(toy, "inspect-shard", tmp_path / "embedded/toyworld/val", *arguments, tmp_path / "b.png")
    assert "clip toy-val-0-00000-c000 drawn into" in shown
    with Image.open(tmp_path / "a.png") as first, Image.open(tmp_path / "b.png") as second:
        assert first.size == second.size and first.size[0] > 1200 and first.tobytes() == second.tobytes()


def test_an_s3_url_works_too(toy, s3):
    succeed(
        toy,
        "build-shards",
        "--split",
        "val",
        "--data-root",
        "data/toy",
        "--out",
        "s3://bucket/looked",
        "--embed-frames",
    )
    assert "no problems" in succeed(toy, "inspect-shard", "s3://bucket/looked/toyworld/val", "--verify")
    there = succeed(toy, "inspect-shard", "s3://bucket/looked/toyworld/val/val-000000.tar", "--json")
    assert there == succeed(toy, "inspect-shard", "shards/toyworld/val", "--json")


def test_a_pager_that_closes_early_is_no_error(toy):
    piped = subprocess.run(
        f"{PROSPECT} inspect-shard shards/toyworld/train --json | head -1",
        shell=True,
        cwd=toy,
        capture_output=True,
        text=True,
    )
    assert piped.stderr == "" and piped.stdout.count("\n") == 1


@pytest.mark.parametrize("packing", ["clip", "turn"])
def test_the_toy_world_passes_the_audit(toy, packing):
    out = succeed(toy, "audit", *TOY, "--set", f"data.packing={packing}")
    counts = [line.split("│")[-3:-1] for line in out.splitlines() if line.startswith("│")]
    assert len(counts) >= 8 and all(violations.strip() in ("0", "") for _, violations in counts)
    assert sum(int(number.strip().replace(",", "") or 0) for number, _ in counts) > 5000


def test_the_audit_for_programs(toy):
    record = json.loads(succeed(toy, "audit", "--split", "val", *TOY, "--json"))
    assert (record["dataset"], record["split"]) == ("toyworld", "val") and record["checks"]["labels"]["compared"] > 100
    assert {check["violations"] for check in record["checks"].values()} == {0}


def test_the_audit_fails_where_annotations_and_shards_differ(toy, tmp_path):
    shutil.copytree(toy / "data", tmp_path / "data")
    path = tmp_path / "data" / "toy" / "toyworld" / "val_training.json"
    clips = json.loads(path.read_text())
    clips[2]["conversation"][-1]["content"] = "Something else."
    path.write_text(json.dumps(clips))
    message = fail(toy, "audit", "--split", "val", *TOY, "--set", f"data.root={tmp_path}/data/toy")
    assert "rebuild toy-val-0-00002-c000: clip of the annotations: found" in message and "1 violations" in message
    path.unlink()
    out = succeed(toy, "audit", "--split", "val", *TOY, "--set", f"data.root={tmp_path}/data/toy")
    assert "not compared with annotations" in out


def test_paths_with_brackets_are_printed_as_they_are(toy, tmp_path):
    out = succeed(toy, "build-shards", "--split", "val", "--data-root", "data/toy", "--out", tmp_path / "a[/b]c[red]")
    assert "a[/b]c[red]/toyworld/val: 8 clips" in out
    assert "no problems" in succeed(
        toy, "inspect-shard", tmp_path / "a[/b]c[red]" / "toyworld" / "val", "--verify", "--data-root", "data/toy"
    )
