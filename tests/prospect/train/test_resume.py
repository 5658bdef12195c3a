"""Runs that go on, start over or are refused: nothing is lost, and nothing is changed without a word."""

import fcntl
import json
import re
import shutil

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.errors import ProspectError
from pipeline.io.lock import lock_beside
from prospect.config_file import load_config
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.runs import checkpoints
from prospect.train.run import train
from tests.helpers.runs import STEPS, Told, config_of, logged, run


@pytest.fixture(scope="module")
def done(folder):
    return run(folder, "done", *STEPS)


@pytest.fixture
def cut(folder, done, request):
    """The finished run, killed after its second step."""
    name = request.node.originalname
    copy = folder / "runs" / name
    shutil.copytree(done.folder, copy)
    for step in (3, 4):
        shutil.rmtree(copy / "checkpoints" / f"checkpoint-{step}")
    (copy / "metrics.json").unlink()
    return copy


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.learning_rate=0.1", r"train\.learning_rate: 0\.0001 before, 0\.1 now"),
        ("train.weight_decay=0.5", r"train\.weight_decay: 0\.01 before, 0\.5 now"),
        ("train.lr_schedule=linear", r"train\.lr_schedule: 'cosine' before, 'linear' now"),
        ("train.loss.lm=2", r"train\.loss\.lm: 1\.0 before, 2\.0 now"),
        ("data.blind=true", r"data\.blind: False before, True now"),
        ("train.seed=1", r"train\.seed: 0 before, 1 now"),
        ("data.packing=turn", r"data\.packing: 'clip' before, 'turn' now"),
        ("data.shuffle_window=2", r"data\.shuffle_window: 16 before, 2 now"),
        ("data.bucket_batches=1", r"data\.bucket_batches: 16 before, 1 now"),
        ("data.event_jitter=1", r"data\.event_jitter: 0 before, 1 now"),
        ("data.max_seq_len=1000", r"data\.max_seq_len: 2048 before, 1000 now"),
        ("data.mix={x: 1}", r"data\.mix\.x: None before, 1\.0 now"),
        ("model.tokens_per_frame=1", r"model\.tokens_per_frame: 'native' before, 1 now"),
    ],
)
def test_other_settings_are_refused(folder, cut, setting, message):
    with pytest.raises(ProspectError, match=rf"cannot be resumed with other settings \({message}\); restore these"):
        run(folder, cut.name, *STEPS, setting, resume=True)
    shutil.rmtree(cut)


def test_intervals_and_workers_may_change(folder, cut, done):
    kept = run(folder, cut.name, *STEPS, "train.save_steps=4", "data.num_workers=1", resume=True)
    assert [path.name for path in checkpoints(kept.folder)] == [f"checkpoint-{n}" for n in (1, 2, 4)]
    assert [entry["loss"] for entry in logged(kept)] == [entry["loss"] for entry in logged(done)]


TIMES = re.compile(r".*_per_s|.*_per_second|train_runtime|data_wait_share|wall_s")


def timeless(record):
    return {name: value for name, value in record.items() if not TIMES.fullmatch(name)}


def scalars(run):
    """TensorBoard's: (step, value) by name."""
    board = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    names = timeless(dict.fromkeys(board.Tags()["scalars"]))
    return {name: [(event.step, event.value) for event in board.Scalars(name)] for name in names}


@pytest.mark.parametrize("killed_after", [2, 4])
def test_every_scalar_of_a_resumed_run_is_that_of_the_whole_run(folder, killed_after):
    """Logs, checkpoints and validations at steps of their own: 3, 6, 9; 2, 4, 6, 8, 9; 4, 8. training.md 4."""
    settings = [
        "train.global_batch_size=2", "train.epochs=3", "train.log_steps=3", "train.save_steps=2", "train.eval_steps=4",
        "data.eval_splits=[train]", "data.negatives={schedule: linear, start: 0.2, end: 1.0}",
    ]  # fmt: skip
    whole = run(folder, f"scalars-{killed_after}", *settings)
    cut = folder / "runs" / f"scalars-{killed_after}-cut"
    shutil.copytree(whole.folder, cut)
    for path in checkpoints(cut):
        if int(path.name.partition("-")[2]) > killed_after:
            shutil.rmtree(path)
    (cut / "metrics.json").unlink()
    resumed = run(folder, cut.name, *settings, resume=True)
    assert (resumed.folder / "metrics.jsonl").read_text() == (whole.folder / "metrics.jsonl").read_text()
    assert timeless(resumed.metrics) == timeless(whole.metrics)
    assert [timeless(entry) for entry in logged(resumed)] == [timeless(entry) for entry in logged(whole)]
    expected = scalars(whole)
    assert {"loss", "lm_loss", "eval_loss", "train_loss", "total_flos", "negative_rate"} <= expected.keys()
    assert [step for step, _ in expected["loss"]] == [2, 3, 4, 6, 8, 9], "a checkpoint is a log too"
    assert scalars(resumed) == expected


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        ("optimizer.pt", "cut", "optimizer.pt: cannot be read"),
        ("optimizer.pt", "gone", "optimizer.pt: cannot be read"),
        ("optimizer.pt", "other", "its optimizer.pt or scheduler.pt cannot be taken up"),
        ("scheduler.pt", "cut", "scheduler.pt: cannot be read"),
        ("scheduler.pt", "gone", "scheduler.pt: cannot be read"),
        ("rng_state.pth", "cut", "rng_state.pth: cannot be read"),
        ("rng_state.pth", "empty", "rng_state.pth: cannot be read"),
        ("rng_state.pth", "gone", "rng_state.pth: found no such file, expected the random states"),
        ("rng_state.pth", "other", r"its random states \(rng_state.pth\) cannot be taken up \(KeyError: 'python'\)"),
        ("trainer_state.json", "cut", "trainer_state.json: not valid JSON"),
        ("trainer_state.json", "gone", "trainer_state.json: cannot be read"),
        ("data_position.json", "cut", "data_position.json: not valid JSON"),
    ],
)
def test_a_checkpoint_cut_short_is_named(folder, cut, name, how, message):
    """attack.md 10: without random states a run went on to other losses, and with empty ones it said "Aborted."."""
    path = cut / "checkpoints" / "checkpoint-2" / name
    data = path.read_bytes()
    path.unlink()
    if how == "other":
        torch.save({}, path)
    elif how != "gone":
        path.write_bytes(data[: len(data) // 2] if how == "cut" else b"")
    with pytest.raises(ProspectError, match=rf"{message}.*; remove .*checkpoint-2, and --resume goes on from the"):
        run(folder, cut.name, *STEPS, resume=True)
    shutil.rmtree(cut)


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("trainer_state.json", {"global_step": 1}, r"global_step: found 1, expected 2 as in data_position\.json"),
        ("trainer_state.json", {"global_step": "2"}, r"global_step: found '2', expected a valid integer"),
        ("trainer_state.json", {"log_history": {}}, r"log_history: found \{\}, expected a valid array"),
        ("trainer_state.json", {"new": 1}, r"its trainer_state\.json cannot be taken up \(TypeError: .*'new'"),
        ("data_position.json", {"step": -1}, r"step: found -1, expected greater than or equal to 0"),
        ("data_position.json", {"step": True}, r"step: found True, expected a valid integer"),
        ("data_position.json", {"plan": ["\x1b"]}, r"plan: found \['\\x1b'\], expected a valid string"),
        ("data_position.json", {"plans": 1}, r"plans: is no field"),
    ],
)
def test_a_state_of_another_step_or_type_is_refused(folder, cut, name, changed, message):
    path = cut / "checkpoints" / "checkpoint-2" / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(ProspectError, match=rf"{message}.*; remove .*checkpoint-2, and --resume goes on from the"):
        run(folder, cut.name, *STEPS, resume=True)
    shutil.rmtree(cut)


def test_random_states_of_another_number_of_ranks_are_told(folder, cut):
    there = cut / "checkpoints" / "checkpoint-2"
    (there / "rng_state.pth").rename(there / "rng_state_3.pth")
    told = Told()
    train(load_config(cut / "config.yaml", [f"name={cut.name}"]), resume=True, watcher=told)
    assert f"{there}: was saved by another number of ranks; what is drawn at random is drawn anew" in told.lines


@pytest.mark.slow
def test_other_folders_beside_the_checkpoints_do_not_count(folder, cut, done):
    shutil.copytree(cut / "checkpoints" / "checkpoint-1", cut / "checkpoints" / "checkpoint-1-backup")
    (cut / "checkpoints" / ".partial" / "checkpoint-3").mkdir(parents=True)  # of a run that was killed
    resumed = run(folder, cut.name, *STEPS, resume=True)
    assert [entry["loss"] for entry in logged(resumed)] == [entry["loss"] for entry in logged(done)]
    assert not (cut / "checkpoints" / ".partial").exists() and (cut / "checkpoints" / "checkpoint-1-backup").exists()


def test_what_stood_after_the_last_checkpoint_is_not_told_twice(folder):
    missing = folder / "data" / "x" / "frames" / "v4.arrow"
    settings = [*STEPS, "data.eval_splits=[train]", "data.on_error=skip", "train.eval_steps=2", "train.save_steps=2"]
    moved = missing.rename(missing.with_suffix(".moved"))
    try:
        whole = run(folder, "told", *settings)
        records, skipped = ((whole.folder / name).read_text() for name in ("metrics.jsonl", "skipped.jsonl"))
        metrics = json.loads((whole.folder / "metrics.json").read_text())
        assert metrics["num_skipped"] == len(skipped.splitlines()) > 3
        (whole.folder / "metrics.json").unlink()
        run(folder, "told", *settings, resume=True)
        assert [(whole.folder / name).read_text() for name in ("metrics.jsonl", "skipped.jsonl")] == [records, skipped]
        shutil.rmtree(whole.folder / "checkpoints" / "checkpoint-4")
        (whole.folder / "metrics.json").unlink()
        run(folder, "told", *settings, resume=True)
        again = [(whole.folder / name).read_text() for name in ("metrics.jsonl", "skipped.jsonl")]
        assert again == [records, skipped]
        assert json.loads((whole.folder / "metrics.json").read_text())["num_skipped"] == metrics["num_skipped"]
    finally:
        moved.rename(missing)


def test_a_run_is_overwritten_only_by_one_that_can_begin(folder, done):
    keep = folder / "runs" / "keep"
    shutil.copytree(done.folder, keep)
    before = sorted(str(path) for path in keep.rglob("*"))
    for setting in ("train.global_batch_size=64", "train.micro_batch_size=3", "model.tokens_per_frame=81"):
        with pytest.raises(ProspectError):
            train(config_of(folder, "keep", *STEPS, setting), overwrite=True)
        assert sorted(str(path) for path in keep.rglob("*")) == before
    train(config_of(folder, "keep", *STEPS, "train.max_steps=1"), overwrite=True)
    assert [path.name for path in checkpoints(keep)] == ["checkpoint-1"]
    assert not list((folder / "runs").glob(".keep.overwritten"))


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}])
def test_a_run_beside_a_running_one_of_its_name_is_refused(folder, cut, options):
    """attack.md 4: --overwrite deleted its checkpoints, with --resume both ran to the end in one folder."""
    before = {path: path.stat().st_mtime_ns for path in cut.rglob("*")}
    with lock_beside(cut).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ProspectError, match=r"a_running_one_of_its_name_is_refused: another train is writing here"):
            train(config_of(folder, cut.name, *STEPS), **options)
    assert {path: path.stat().st_mtime_ns for path in cut.rglob("*")} == before
    shutil.rmtree(cut)


def test_a_finished_run_is_told_though_nothing_may_be_written(folder, done, monkeypatch):
    def read_only(*arguments):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("prospect.train.run.sole_owner", read_only)
    assert train(load_config(done.folder / "config.yaml")).up_to_date


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_that_no_run_makes_are_not_replaced(folder, done, overwrite):
    """A folder with a config.yaml is no reason to remove what else is in it."""
    place = folder / "runs" / f"mine-{overwrite}"
    place.mkdir()
    shutil.copy(done.folder / "config.yaml", place)
    (place / "notes.md").write_text("mine")
    with pytest.raises(ProspectError, match=r"found notes\.md there, which no run makes; move it away, or pass --set"):
        train(config_of(folder, place.name, *STEPS), overwrite=overwrite)
    assert (place / "notes.md").read_text() == "mine"


def test_a_run_that_saved_nothing_yet_starts_from_the_weights_of_its_settings(folder, done):
    fresh = folder / "runs" / "fresh"
    fresh.mkdir()
    shutil.copytree(done.folder / "init", fresh / "init")
    shutil.copy(done.folder / "config.yaml", fresh)
    seeded = run(folder, "fresh", *STEPS, "train.seed=1", "train.max_steps=1", resume=True)
    expected = run(folder, "seeded", *STEPS, "train.seed=1", "train.max_steps=1")
    assert [entry["loss"] for entry in logged(seeded)] == [entry["loss"] for entry in logged(expected)]
    weights = [DSTSmolVLM.from_checkpoint(r.folder / "init").lm_head.weight for r in (seeded, expected, done)]
    assert weights[0].equal(weights[1]) and not weights[0].equal(weights[2])


def test_the_untrained_model_of_a_resumed_run_is_not_lost(folder):
    """attack.md 10: an empty metrics.jsonl went unnoticed, and metrics.json had no untrained model."""
    settings = [*STEPS, "data.eval_splits=[train]", "train.eval_steps=2", "train.save_steps=2"]
    whole = run(folder, "untrained", *settings)
    log = whole.folder / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    (whole.folder / "metrics.json").unlink()
    for text, message in (
        ("", r"metrics\.jsonl: found no evaluation of train before the first step, expected what the run began with"),
        ("".join(lines[1:]), r"metrics\.jsonl: found no evaluation of train before the first step"),
        (lines[0] + "{}\n", r"metrics\.jsonl line 2: step: found nothing, expected it; epoch: found nothing"),
        (
            lines[0] + '{"step": 2, "epoch": NaN, "split": 3}\n',
            r"line 2: epoch: found nan, expected a finite number; sp",
        ),
        ("\x00\n", r"metrics\.jsonl line 1: not valid JSON"),
    ):
        log.write_text(text)
        with pytest.raises(ProspectError, match=message):
            run(folder, "untrained", *settings, resume=True)
    log.write_text("".join(lines))
    assert run(folder, "untrained", *settings, resume=True).metrics["untrained"] == whole.metrics["untrained"]
