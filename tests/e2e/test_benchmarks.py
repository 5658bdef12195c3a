"""The benchmarks that need no GPU and little time run to their end, at their smallest; two had stopped unseen."""

import os
import subprocess
import sys

import pytest

from tests.helpers.places import ROOT


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("packing.py", "--clips", "4", "--repeat", "1"),
        ("train.py", "--clips", "2", "--passes", "1", "--repeat", "1"),
        ("stream_inference.py", "--short"),
        ("build.py", "--clips", "40", "--embedded-clips", "4"),
        ("live.py", "--minutes", "0.05", "--others", "0.05", "--rates", "2", "4"),
    ],
    ids=lambda words: words[0],
)
def test_a_benchmark_runs_to_its_end(tmp_path, words):
    script = ROOT / "benchmarks" / words[0]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "BENCH_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, script, *words[1:]], cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=500
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
