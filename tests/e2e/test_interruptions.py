"""Builds that are killed, stopped, run out of disk or run twice at once; builds elsewhere. All end in the same bytes."""

import fcntl
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.io.remote import open_folder
from pipeline.shards.inputs import CACHE
from tests.helpers.command import PROSPECT, fail, run, start, succeed
from tests.helpers.fakes import raw_clip, write_root
from tests.helpers.places import ROOT
from tests.helpers.waiting import wait_for

OPTIONS = ("--split", "train", "--data-root", "data", "--max-shard-samples", 200, "--workers", 2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/x: 1200 clips of one video."""
    folder = tmp_path_factory.mktemp("interrupted")
    clip = raw_clip(frames_file="frames/v1.arrow")
    write_root(folder / "data", [clip | {"clip_idx": i, "initial_dst_state": {}} for i in range(1200)])
    return folder


@pytest.fixture(scope="module")
def whole(root: Path) -> dict[str, str]:
    """Digests of a build in one go, by one worker."""
    succeed(root, "build-shards", *OPTIONS, "--workers", 1, "--out", "whole")
    return digests(root / "whole")


def digests(out: Path) -> dict[str, str]:
    files = sorted(p for p in out.rglob("*") if p.is_file() and p.name != CACHE)
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def finished(out: Path) -> int:
    """Shards that a build under way has finished, their rows (in the work folder) too."""
    return len(list((out / "x" / ".train.build").glob("*.tar.parquet")))


def test_twenty_kills_in_the_course_of_a_build_end_in_the_same_bytes(root, whole):
    out, moments, hits = root / "killed", random.Random(0), 0
    for _ in range(20):
        process = start(root, "build-shards", *OPTIONS, "--out", "killed")
        goal = finished(out) + moments.randint(0, 4)
        wait_for(lambda: process.poll() is not None or finished(out) >= goal, pause_s=0.002)  # noqa: B023
        time.sleep(moments.uniform(0, 0.05))  # somewhere within a shard
        process.kill()
        process.communicate()
        hits += process.returncode == -signal.SIGKILL
        tars = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in root.glob("killed/x/train/*.tar")}
        assert all(whole[f"x/train/{name}"] == digest for name, digest in tars.items()), "complete under a final name"
        if (out / "x" / "train" / "manifest.json").exists():
            assert "nothing to do" in succeed(root, "build-shards", *OPTIONS, "--out", "killed")  # removes leftovers
            assert digests(out) == whole
            shutil.rmtree(out)
    succeed(root, "build-shards", *OPTIONS, "--out", "killed")
    assert digests(out) == whole
    assert hits >= 10, "too few kills met a build under way"


@pytest.mark.parametrize(
    ("sent", "code", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_stopped_build_says_so_and_goes_on_later(root, whole, sent, code, word):
    out = root / word
    process = start(root, "build-shards", *OPTIONS, "--out", word)
    wait_for(lambda: finished(out) >= 3, pause_s=0.002)
    process.send_signal(sent)
    _, message = process.communicate(timeout=60)
    assert process.returncode == code
    assert message == f"{word}; what was finished is kept: run the same command again (train: with --resume) to go on\n"
    assert not list(out.rglob("*.partial"))
    names = [p.stem for p in (out / "x" / ".train.build").glob("*.tar.parquet")]
    kept = {name: (out / "x" / "train" / name).stat().st_mtime_ns for name in names}
    assert 3 <= len(kept) < len(whole) - 2
    succeed(root, "build-shards", *OPTIONS, "--out", word)
    assert digests(out) == whole
    assert {name: (out / "x" / "train" / name).stat().st_mtime_ns for name in names} == kept


def test_a_build_whose_shell_ignores_ctrl_c_for_it_goes_on(root, whole):
    """As shells do for `COMMAND &`, so that Ctrl-C stops what is in the foreground alone."""
    process = start(root, "build-shards", *OPTIONS, "--out", "background", sigint=signal.SIG_IGN)
    wait_for(lambda: finished(root / "background") >= 3, pause_s=0.002)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0 and digests(root / "background") == whole


def test_two_builds_at_once_are_refused(root, whole):
    work = root / "twice" / "x" / ".train.build"
    work.mkdir(parents=True)
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another build is writing here" in fail(root, "build-shards", *OPTIONS, "--out", "twice")
    succeed(root, "build-shards", *OPTIONS, "--out", "twice")
    assert digests(root / "twice") == whole


def in_small_disk(root: Path, size: str, script: str) -> subprocess.CompletedProcess[str]:
    """Runs a shell script with `small`, a file system of `size`, under `root`."""
    (root / "small").mkdir(exist_ok=True)
    mount = f"mount -t tmpfs -o size={size} tmpfs small && "
    done = subprocess.run(["unshare", "-rm", "sh", "-c", mount + script], cwd=root, capture_output=True, text=True)
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"this machine mounts nothing for its users: {done.stderr}")
    return done


def test_a_full_disk_is_one_clear_line_and_keeps_what_was_finished(root, whole):
    arguments = " ".join(map(str, OPTIONS))
    total = sum(p.stat().st_size for p in (root / "whole").rglob("*") if p.is_file())
    done = in_small_disk(
        root,
        str(total * 2 // 3),
        f"{PROSPECT} build-shards {arguments} --out small/out; echo rc $?; find small -name '*.partial' | wc -l; "
        f"cp -r small/out full && mount -o remount,size={total * 3} small && "
        f"{PROSPECT} build-shards {arguments} --out small/out && cp -r small/out freed",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("rc 1\n0\n"), done.stdout
    assert done.stderr.startswith("error: [Errno 28]") and done.stderr.count("\n") == 1, done.stderr
    assert "free some space, then run the same command again" in done.stderr
    kept = digests(root / "full" / "x" / "train")
    assert sum(name.endswith(".tar") for name in kept) > 3
    assert all(whole[f"x/train/{name}"] == digest for name, digest in kept.items() if name.endswith(".tar"))
    assert digests(root / "freed") == whole


def test_a_limit_on_file_size_is_one_clear_line(root):
    limited = f"ulimit -f 100; {PROSPECT} build-shards {' '.join(map(str, OPTIONS))} --out limited"
    done = subprocess.run(["sh", "-c", limited], cwd=root, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: [Errno 27] File too large: "), done.stderr
    assert done.stderr.count("\n") == 1


def test_an_unwritable_output_is_one_clear_line(root):
    script = f"mount -o remount,ro small && {PROSPECT} build-shards {' '.join(map(str, OPTIONS))} --out small/out"
    done = in_small_disk(root, "1m", script)
    assert done.returncode == 1
    assert done.stderr == (
        "error: [Errno 30] Read-only file system: 'small/out'; choose a folder that you may write to, e.g. with --out\n"
    )


def test_ray_writes_the_same_bytes(root, whole):
    succeed(root, "build-shards", *OPTIONS, "--engine", "ray", "--out", "ray")
    assert digests(root / "ray") == whole
    assert "nothing to do" in succeed(root, "build-shards", *OPTIONS, "--out", "ray")
    assert "has no effect without --engine ray" in fail(root, "build-shards", *OPTIONS, "--ray-address", "auto")


def test_ray_reports_the_same_problems(tmp_path):
    write_root(tmp_path / "data", [raw_clip(fps=0)])
    messages = [
        fail(tmp_path, "build-shards", "--split", "train", "--data-root", "data", "--engine", engine)
        for engine in ("local", "ray")
    ]
    assert messages[0] == messages[1].replace("--engine ray", "--engine local") and "fps: found 0" in messages[0]


def test_shards_go_to_s3_in_the_same_bytes_and_a_build_there_goes_on(root, whole, s3):
    out = "s3://bucket/out"
    assert "nothing to do" not in succeed(root, "build-shards", *OPTIONS, "--out", out)
    there = open_folder(out) / "x" / "train"
    found = {f"x/train/{name}": hashlib.sha256(there.read(name)).hexdigest() for name in there.names() if name != CACHE}
    assert found == whole
    assert (open_folder(out) / "x" / ".train.build").names() == []
    assert "nothing to do, already built: s3://bucket/out/x/train" in succeed(
        root, "build-shards", *OPTIONS, "--out", out
    )
    message = fail(root, "build-shards", *OPTIONS, "--max-silent-frames", 3, "--out", out)
    assert "s3://bucket/out/x/train: found shards of another input or other options" in message

    process = start(root, "build-shards", *OPTIONS, "--out", "s3://bucket/killed")
    part = open_folder("s3://bucket/killed") / "x" / "train"
    while len(part.names()) < 3:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    succeed(root, "build-shards", *OPTIONS, "--out", "s3://bucket/killed")
    found = {f"x/train/{name}": hashlib.sha256(part.read(name)).hexdigest() for name in part.names() if name != CACHE}
    assert found == whole
    assert "manifest.json: NoSuchBucket" in fail(root, "build-shards", *OPTIONS, "--out", "s3://nowhere")


def test_a_rerun_reads_no_input_again_unless_asked(root, whole):
    out = succeed(root, "build-shards", *OPTIONS, "--out", "whole")
    assert "nothing to do" in out
    annotations = root / "data" / "x" / "train_training.json"
    before, text = annotations.stat(), annotations.read_text()
    try:
        annotations.write_text(text.replace("Take it", "Make it"))
        os.utime(annotations, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert "nothing to do" in succeed(root, "build-shards", *OPTIONS, "--out", "whole")
        assert "another input" in fail(root, "build-shards", *OPTIONS, "--out", "whole", "--verify")
        os.utime(annotations)
        assert "another input" in fail(root, "build-shards", *OPTIONS, "--out", "whole")
    finally:
        annotations.write_text(text)
    assert "nothing to do" in run(root, "build-shards", *OPTIONS, "--out", "whole", "--verify").stdout


def test_a_changed_frames_file_is_noticed_where_it_is_embedded(tmp_path):
    root = write_root(tmp_path / "data", [raw_clip(frames_file="frames/v1.arrow")])
    options = ("--split", "train", "--data-root", root, "--embed-frames")
    succeed(tmp_path, "build-shards", *options)
    frames = root / "x" / "frames" / "v1.arrow"
    os.utime(frames)
    assert "nothing to do" in succeed(tmp_path, "build-shards", *options), "touched, not changed"
    data = bytearray(frames.read_bytes())
    data[len(data) // 2] ^= 1
    frames.write_bytes(data)
    message = fail(tmp_path, "build-shards", *options)
    assert "its shards embed" in message and "v1.arrow, which was changed since; pass --force" in message
    frames.unlink()
    assert "nothing to do" in succeed(tmp_path, "build-shards", *options), "the shards have their images"


SWALLOWED = """
import signal, sys, typer
from pipeline.io.engine import _work
from prospect.commands.terminal import clear_errors

class Dies:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
        sum(range(1000))

def for_ever(task):
    Dies()
    while True:
        pass

if sys.argv[1] == "worker":
    _work(for_ever, None)
try:
    with clear_errors():
        for_ever(None)
except typer.Exit as error:
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize(("where", "code", "told"), [("command", 143, "terminated; "), ("worker", 1, "")])
def test_a_signal_that_a_finalizer_swallows_ends_the_program_all_the_same(where, code, told):
    """What is raised in a __del__, or in C code that cannot fail, is dropped by Python: a video was read to its end."""
    words = [sys.executable, "-c", SWALLOWED, where]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == code and done.stderr.startswith(told) and "Traceback" not in done.stderr
