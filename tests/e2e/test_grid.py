"""The grid of runs that benchmarks share: what is done stays done, whatever was cut short."""

import importlib.util
import sys

import pytest

from tests.helpers.places import ROOT


@pytest.fixture(scope="module")
def grid():
    spec = importlib.util.spec_from_file_location("grid", ROOT / "benchmarks" / "learning" / "grid.py")
    module = sys.modules["grid"] = importlib.util.module_from_spec(spec)  # dataclasses look it up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["grid"]


def run(grid, monkeypatch, capsys, out, cells, outcome):
    """What was run, and what was printed; `outcome` of (name, seed) is a record."""
    done = []

    def instead(task):
        done.append((task.name, task.seed))
        return outcome(task.name, task.seed)

    monkeypatch.setattr(grid, "_in_a_process", instead)
    arguments = grid.options("").parse_args([f"--out={out}", "--world=own", "--seeds=0,1", "--jobs=1"])
    grid.run_grid(cells, arguments, {"F1": "streamed.F1", "at": "thresholds.1"})
    return done, capsys.readouterr().out


def scored(name, seed):
    return {"seconds": 1, "streamed": {"F1": 0.5 + seed / 4}, "thresholds": [0.1, None]}


def test_a_second_call_runs_what_failed_was_cut_short_or_has_other_settings(grid, monkeypatch, capsys, tmp_path):
    a, b = grid.Cell("a", ("train.epochs=1",)), grid.Cell("b", ("train.epochs=2",))
    every = [("a", 0), ("b", 0), ("a", 1), ("b", 1)]

    def fails(name, seed):
        return {"error": "out of luck"} if (name, seed) == ("b", 0) else scored(name, seed)

    done, told = run(grid, monkeypatch, capsys, tmp_path, [a, b], fails)
    assert done == every
    assert "0.625 (0.500-0.750)" in told and "failed: b seed 0: out of luck" in told
    records = tmp_path / grid.RUNS
    records.write_bytes(records.read_bytes()[:-20])  # as SIGKILL leaves the last line
    done, told = run(grid, monkeypatch, capsys, tmp_path, [a, b], scored)
    assert done == [("b", 0), ("b", 1)] and "failed" not in told
    assert told.count("0.625 (0.500-0.750)") == 2 and told.count("–") == 2
    assert run(grid, monkeypatch, capsys, tmp_path, [a, b], scored)[0] == []
    other = grid.Cell("a", ("train.epochs=3",))
    assert run(grid, monkeypatch, capsys, tmp_path, [other, b], scored)[0] == [("a", 0), ("a", 1)]
