"""`stream_live` and the command in front of it, with a toy model in place of a checkpoint."""

import io
import json
from contextlib import nullcontext
from dataclasses import replace

import av
import pytest
from typer.testing import CliRunner

from pipeline.errors import ProspectError
from pipeline.progress import untold
from prospect.commands.app import app
from prospect.stream.endless import SourceLost
from prospect.stream.lines import Lines
from prospect.stream.live import Outputs, stream_live
from prospect.stream.load import Overrides
from prospect.stream.player import FORMAT
from prospect.stream.task import Task
from tests.helpers.fakes import jpeg, raw_clip
from tests.helpers.streams import TASK, streamer, with_bias


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        (folder / f"f{number}.jpg").write_bytes(jpeg(number))
    return folder


@pytest.fixture
def live(model, tokens, images, monkeypatch):
    """Streams `images` at 2 frames a second; what is told."""
    silent = with_bias(model, -9, -9)
    monkeypatch.setattr("prospect.stream.live.checkpoint_folder", lambda place: place)
    settings = {"reserve": 40}
    monkeypatch.setattr(
        "prospect.stream.live.load_streamer", lambda checkpoint, overrides: streamer(silent, tokens, **settings)
    )

    def stream(
        out=None, video=None, script=None, task=TASK, source=images, fps=2, trained=None, told=untold, realtime=False,
        look=lambda played: None, **more,
    ):  # fmt: skip
        monkeypatch.setattr(
            silent.config, "prospect", silent.config.prospect | ({} if trained is None else {"fps": trained})
        )
        outputs = Outputs(lambda task, settings: nullcontext(look), out, video)
        return stream_live(source, "c", task, script, fps, realtime, outputs, Overrides(), tell=told, **more)

    return stream


def test_what_fails_before_the_first_frame_leaves_the_run_file_as_it_was(live, images, tmp_path):
    out = tmp_path / "run.jsonl"
    earlier = f'{{"format": "{FORMAT}"}}\n'
    out.write_text(earlier)
    with pytest.raises(ProspectError, match=r"--video .*: found the suffix '\.gif'"):
        live(out, tmp_path / "o.gif")
    with pytest.raises(ProspectError, match="found 3 frames, expected more than 3"):
        live(out, tmp_path / "o.mp4", task=Task(first_frame=3))
    (images / "f0.jpg").write_bytes(b"")
    with pytest.raises(ProspectError, match="frame 0: cannot be decoded"):
        live(out)
    assert out.read_text() == earlier and not (tmp_path / "o.mp4").exists()
    (images / "f0.jpg").write_bytes(jpeg(0))
    (images / "f1.jpg").write_bytes(b"")
    with pytest.raises(ProspectError, match="frame 1: cannot be decoded"):
        live(out)
    assert len(out.read_text().splitlines()) == 2, "a header, and the frame before"


def test_outputs_that_cannot_be_are_refused_before_anything_is_loaded(live, tmp_path, monkeypatch):
    monkeypatch.setattr("prospect.stream.live.load_streamer", None)
    with pytest.raises(ProspectError, match=r"--out and --video: found .*a\.mp4 for both, expected two files"):
        live(tmp_path / "a.mp4", tmp_path / "x" / ".." / "a.mp4")
    with pytest.raises(ProspectError, match=r"--out .*: found a folder, expected a file's name"):
        live(tmp_path)
    with pytest.raises(ProspectError, match=r"--video .*: found the suffix '\.gif'"):
        live(None, tmp_path / "o.gif")


def test_what_the_command_reads_is_not_written_over(live, images, tmp_path, monkeypatch):
    """attack.md 5: `stream --out X` where X is its own --steps, --clip, --script, or the checkpoint's weights."""
    monkeypatch.setattr("prospect.stream.live.load_streamer", None)
    monkeypatch.chdir(tmp_path)
    weights, steps, script = tmp_path / "c" / "model.safetensors", tmp_path / "steps.json", tmp_path / "script.txt"
    weights.parent.mkdir()
    (tmp_path / "c" / "config.json").write_text("{}")
    for path in (weights, steps, script):
        path.write_text("precious")
    (tmp_path / "link.jsonl").symlink_to(steps)
    task = Task(files=(steps,))
    for out in (weights, steps, script, tmp_path / "link.jsonl", images / "f0.jpg"):
        with pytest.raises(ProspectError, match=f"{out.name}: is what the command reads, expected another file"):
            live(out, script=script, task=task)
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(ProspectError, match=r"notes\.txt: is there already, and no record of a stream"):
        live(tmp_path / "notes.txt")
    assert {path.read_text() for path in (weights, steps, script, tmp_path / "notes.txt")} == {"precious"}


@pytest.mark.parametrize("typed", [True, False])
def test_no_line_that_is_typed_or_scripted_ends_a_session(live, tmp_path, monkeypatch, typed):
    """Twelve that wait before the first frame, and one of six hundred characters: three frames, and all is in order."""
    said = ["word " * 120, *(f"and {i}" for i in range(12))]
    script = tmp_path / "script.txt"
    script.write_text("".join(f"0 {line}\n" for line in said))
    out = tmp_path / "run.jsonl"
    monkeypatch.setattr(Lines, "listen", lambda lines, stream: [lines._typed.put(line.strip()) for line in stream])
    told = live(out, script=io.StringIO("\n".join(said)) if typed else script)
    _, *records = map(json.loads, out.read_text().splitlines())
    assert [record["frame"] for record in records] == [0, 1, 2]
    heard = [line["text"] for record in records for line in record["lines"]]
    assert 3 <= len(heard) < 12 and heard == said[1 : 1 + len(heard)] and len(records[1]["lines"]) > 0
    (note,) = [note for record in records for note in record["notes"]]
    assert note.startswith("not heard, as it takes ") and "a frame 40 at most" in note
    assert told.endswith(f"that no frame was left for, and that were not said: {12 - len(heard)}")


def rate_of(out):
    header, _, second, *_ = map(json.loads, out.read_text().splitlines())
    assert second["time_s"] == 1 / header["fps"]
    return header["fps"], header["trained_fps"]


@pytest.mark.parametrize(
    ("given", "clip", "trained", "fps", "noted"),
    [
        (None, None, None, 2, None),  # nothing is known
        (None, None, [5], 5, None),
        (None, None, [4, 10], 4, None),
        (None, 10, [4, 10], 10, None),
        (None, 10, [4], 10, "frames at 10 a second, and the checkpoint was trained on 4: it expects"),
        (3, 10, [4, 8], 3, "frames at 3 a second, and the checkpoint was trained on 4, 8: it expects"),
        (29.97, None, [30], 29.97, None),
        (3, None, None, 3, None),
    ],
)
def test_a_stream_has_the_rate_of_training_unless_told_otherwise_and_then_says_so(
    live, tmp_path, given, clip, trained, fps, noted
):
    out, told = tmp_path / "run.jsonl", []
    live(out, task=replace(TASK, fps=clip), fps=given, trained=trained, told=told.append)
    assert rate_of(out) == (fps, trained or [])
    assert [line.startswith(f"note: {noted}") for line in told] == ([True] if noted else [])


@pytest.mark.parametrize("fps", ["2", [0], [True], [float("inf")], {"a": 1}, [None]])
def test_a_rate_that_is_none_in_a_checkpoint_is_named(live, fps):
    with pytest.raises(ProspectError, match=r"^c/config\.json: prospect\.fps: found .*, expected a list of frames a"):
        live(trained=fps)


def test_late_frames_of_a_file_need_a_clock(live):
    with pytest.raises(ProspectError, match=r"--drop late: frames of a file are all there at once, .* add --realtime"):
        live(drop_late=True)
    assert "late frames dropped of 3" in live(drop_late=True, realtime=True, fps=1000)


def test_lines_of_the_script_after_the_end_are_counted(live, tmp_path):
    """Three frames at 0, 0.5 and 1 s."""
    script = tmp_path / "script.txt"
    script.write_text("0.5 a\n1 b\n1.01 c\n7 d\n")
    told = live(script=script).splitlines()
    assert told[1:] == ["note: lines of --script that no frame was left for, and that were not said: 2"]
    script.write_text("1 b\n")
    assert len(live(script=script).splitlines()) == 1


@pytest.mark.parametrize(("options", "fps"), [(["--clip"], None), (["--fps", "4", "--clip"], 4), ([], None)])
def test_a_rate_that_is_asked_for_outdoes_the_clips(tmp_path, monkeypatch, options, fps):
    clip = tmp_path / "train_training.json"
    clip.write_text(json.dumps([raw_clip(fps=0.5)]))
    asked = []
    monkeypatch.setattr("prospect.stream.live.stream_live", lambda *given, **more: asked.append(given) or "done")
    named = [*options, str(clip)] if options else []
    done = CliRunner().invoke(app, ["stream", "x", "--checkpoint", "c", *named])
    assert done.exit_code == 0, done.output
    assert asked[0][4] == fps and asked[0][2].fps == (0.5 if named else None)


def frames_in(path):
    with av.open(str(path)) as container:
        return len(list(container.decode(video=0)))


def test_what_came_before_a_source_was_lost_is_kept(live, images, tmp_path):
    """The third image of a folder that grows is never whole."""
    (images / "f2.jpg").write_bytes(jpeg(2)[:100])
    out, film = tmp_path / "run.jsonl", tmp_path / "o.mp4"
    with pytest.raises(SourceLost, match=r"f2\.jpg: is no whole image after 0\.1 s"):
        live(out, film, follow_s=0.1)
    assert len(out.read_text().splitlines()) == 3 and frames_in(film) == 2


def test_a_source_that_never_came_leaves_nothing(live, tmp_path):
    out, film = tmp_path / "run.jsonl", tmp_path / "o.mp4"
    with pytest.raises(SourceLost, match=r"^rtsp://me:\*\*\*@127\.0\.0\.1:1/x: breaks off at its beginning"):
        live(out, film, source="rtsp://me:secret@127.0.0.1:1/x")
    assert not out.exists() and not film.exists()


@pytest.mark.parametrize("follow_s", [None, 60])
def test_ctrl_c_ends_what_has_no_end_and_breaks_off_what_has(live, tmp_path, follow_s):
    out, film = tmp_path / "run.jsonl", tmp_path / "o.mp4"

    def look(played):
        if played.record.frame == 2:
            raise KeyboardInterrupt

    if follow_s is None:
        with pytest.raises(KeyboardInterrupt):
            live(out, film, look=look)
        assert not film.exists()
    else:
        assert live(out, film, look=look, follow_s=follow_s).startswith("3 frames in ")
        assert frames_in(film) == 2, "the third was not shown"
    assert len(out.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("options", "given", "drop_late"),
    [
        ([], {}, False),
        (["--max-new-tokens", "9", "--least-gap", "1.5", "--no-repeat", "3"],
         {"max_new_tokens": 9, "least_gap_s": 1.5, "no_repeat": 3}, False),
        (["--drop", "late"], {}, True),
    ],
)  # fmt: skip
def test_what_the_options_of_the_command_ask_for_is_off_without_them(monkeypatch, options, given, drop_late):
    asked = []
    monkeypatch.setattr("prospect.stream.live.stream_live", lambda *args: asked.append((args[7], args[9])) or "done")
    done = CliRunner().invoke(app, ["stream", "x", "--checkpoint", "c", *options])
    assert done.exit_code == 0, done.output
    ((overrides, is_late),) = asked
    assert overrides.given() == given and is_late == drop_late
