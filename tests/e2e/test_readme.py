"""README's commands on one's own data, as they stand there: each import on a small file of its source, and the rest on
the toy's clips under another name."""

import json
import shlex
import shutil
from pathlib import Path

from prospect.commands.importing import imports
from tests.helpers.command import run, succeed
from tests.helpers.places import ROOT
from tests.helpers.sources import write_sources
from tests.helpers.videos import write_video

SMALLER = {  # what makes a command small, beside what README says
    "train": ["--set=train.max_steps=6", "--set=data.num_workers=0", "--set=data.cache=cache"],
    "plan": ["--set=data.cache=cache"],
    "calibrate": ["--limit", "1", "--confirm", "1"],
    "evaluate": ["--limit", "1", "--rows", "", "--max-actions", "1"],
}


def commands(first: str) -> list[list[str]]:
    """The block of commands under `Your data` that begins with `first`."""
    section = (ROOT / "README.md").read_text().partition("## Your data\n")[2].replace("\\\n", "")
    lines = ("    " + first + section.partition(f"\n    {first}")[2]).splitlines()
    block = lines[: lines.index("")]
    return [shlex.split(line, comments=True)[1:] for line in block]


def expanded(words: list[str], folder: Path) -> list[str]:
    """As a shell gives them."""
    given: list[str] = []
    for word in words:
        given += sorted(str(path.relative_to(folder)) for path in folder.glob(word)) if "*" in word else [word]
    return given


def test_each_source_has_a_command_and_its_spans_become_shards(tmp_path):
    write_sources(tmp_path)
    sources = commands("python3 -m venv")[1:]  # without the set-up
    assert {words[1] for words in sources} == {command.name for command in imports.registered_commands}
    for words in sources:
        out = tmp_path / words[words.index("--out") + 1]
        assert str(out.relative_to(tmp_path)) in succeed(tmp_path, *expanded(words, tmp_path))
        made = sorted(path.name for path in out.iterdir())
        assert "train_training.jsonl" in made if words[1] == "proassist" else "train_spans.jsonl" in made
    (tmp_path / "films").mkdir()
    write_video(tmp_path / "films" / "cup.mp4", list(range(0, 10_000, 100)))
    frames, project, build = commands("prospect extract-frames films")
    assert "frames/cup.arrow: 20 frames" in succeed(tmp_path, *expanded(frames, tmp_path))
    assert "2 start, 2 complete" in succeed(tmp_path, *project)
    out = succeed(tmp_path, *build)
    assert "shards/mine/train: 1 clip, " in out and "filters left out 0 clips: method=human 0" in out


def test_the_commands_on_ones_own_data(toy, tmp_path):
    shutil.copytree(toy / "data" / "toy" / "toyworld", tmp_path / "data" / "kitchen")
    for path in (tmp_path / "data" / "kitchen").glob("*_training.json"):
        clips = json.loads(path.read_text())
        path.write_text(json.dumps([{key: value for key, value in clip.items() if key != "dataset"} for clip in clips]))
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "one.mp4", list(range(0, 3000, 100)))
    wanted = commands("prospect extract-frames videos")
    assert [words[0] for words in wanted] == [
        "extract-frames", "validate", "build-shards", "build-shards", "build-shards", "inspect-shard", "init", "audit",
        "plan", "train", "calibrate", "evaluate",
    ]  # fmt: skip
    for words in wanted:
        given = ["toy" if word == "smolvlm2-2.2b-24gb" else word for word in words]
        done = run(tmp_path, *expanded(given, tmp_path), *SMALLER.get(words[0], []))
        assert done.returncode == 0, f"{shlex.join(given)}: {done.stderr}"
    evaluation = tmp_path / "runs" / "kitchen" / "evaluation" / "test"
    assert (evaluation / "metrics.json").is_file() and (evaluation / "report.html").is_file()
    assert (tmp_path / "data" / "kitchen" / "frames" / "one.arrow").is_file()
