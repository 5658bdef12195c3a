"""A Ray cluster that was started by itself, in another folder, and asks for a token, as Ray's own default is to be."""

import os
import re
import signal
import subprocess
from contextlib import suppress

import pytest

from tests.helpers.command import PROSPECT, process, succeed

pytestmark = pytest.mark.slow
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a head with two CPUs, which ends with these tests."""
    words = [PROSPECT.parent / "ray", "start", "--head", "--port", 0, "--num-cpus", 2, "--include-dashboard", "false",
             "--disable-usage-stats", "--block"]  # fmt: skip
    head = subprocess.Popen(
        list(map(str, words)), cwd=tmp_path_factory.mktemp("head"), env=os.environ | TOKEN, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    assert head.stdout is not None
    told = ""
    while not (found := re.search(r"ray start --address='([\d.]+:\d+)'", told)):
        line = head.stdout.readline()
        assert line, told
        told += line
    yield found[1]
    head.send_signal(signal.SIGTERM)
    try:
        head.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)


def made(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".json"}


def test_a_cluster_builds_and_streams_what_this_machine_does(address, toy, trained):
    """With paths that are relative to the folder of the command."""
    ray = ("--engine", "ray", "--ray-address", address)
    done = process(toy, "build-shards", "--split", "val", "--data-root", "data/toy", "--out", "far", *ray, **TOKEN)
    assert done.returncode == 0, done.stderr
    assert made(toy / "far" / "toyworld" / "val") == made(toy / "shards" / "toyworld" / "val")

    common = ("evaluate", "--checkpoint", "runs/tiny", "--limit", 2, "--rows", "", "--update-threshold", 0.2, "--out")
    succeed(toy, *common, "one")
    done = process(toy, *common, "by-ray", *ray, **TOKEN)
    assert done.returncode == 0, done.stderr
    paths = sorted((toy / "one" / "predictions" / "model").iterdir())
    for path in paths:
        found = (toy / "by-ray" / "predictions" / "model" / path.name).read_bytes()
        assert re.sub(rb'"seconds": [^\n]+', b"", found) == re.sub(rb'"seconds": [^\n]+', b"", path.read_bytes())
    assert len(paths) == 2


def test_a_cluster_that_wants_a_token_is_told(address, toy, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)  # which Ray sets in a process that has started one
    words = ("build-shards", "--split", "val", "--data-root", "data/toy", "--out", "none", "--engine", "ray")
    done = process(toy, *words, "--ray-address", address, RAY_AUTH_TOKEN=TOKEN["RAY_AUTH_TOKEN"])
    assert done.returncode == 1 and not (toy / "none" / "toyworld" / "val" / "manifest.json").exists()
    assert done.stderr.endswith("; if this cluster wants a token, set RAY_AUTH_MODE=token\n")
