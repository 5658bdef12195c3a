"""README's commands on one's own data, as they stand there, on the toy's clips under another name."""

import json
import shlex
import shutil

from tests.helpers.command import run
from tests.helpers.places import ROOT
from tests.helpers.videos import write_video

SMALLER = {  # what makes a command small, beside what README says
    "train": ["--set=train.max_steps=6", "--set=data.num_workers=0", "--set=data.cache=cache"],
    "plan": ["--set=data.cache=cache"],
    "calibrate": ["--limit", "1", "--confirm", "1"],
    "evaluate": ["--limit", "1", "--rows", "", "--max-actions", "1"],
}


def commands() -> list[list[str]]:
    """The first block of commands after the heading `Your own data`, set-up left out."""
    section = (ROOT / "README.md").read_text().partition("## Your own data\n")[2]
    lines = section.partition("    python3 -m venv")[2].splitlines()[1:]
    block = lines[: lines.index("")]
    return [shlex.split(line, comments=True)[1:] for line in block]


def test_the_commands_on_ones_own_data(toy, tmp_path):
    shutil.copytree(toy / "data" / "toy" / "toyworld", tmp_path / "data" / "kitchen")
    for path in (tmp_path / "data" / "kitchen").glob("*_training.json"):
        clips = json.loads(path.read_text())
        path.write_text(json.dumps([{key: value for key, value in clip.items() if key != "dataset"} for clip in clips]))
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "one.mp4", list(range(0, 3000, 100)))
    wanted = commands()
    assert [words[0] for words in wanted] == [
        "extract-frames", "validate", "build-shards", "build-shards", "build-shards", "inspect-shard", "init", "audit",
        "plan", "train", "calibrate", "evaluate",
    ]  # fmt: skip
    for words in wanted:
        given = ["toy" if word == "smolvlm2-2.2b-24gb" else word for word in words]
        given = ["videos/one.mp4" if word == "videos/*.mp4" else word for word in given]
        done = run(tmp_path, *given, *SMALLER.get(words[0], []))
        assert done.returncode == 0, f"{shlex.join(given)}: {done.stderr}"
    evaluation = tmp_path / "runs" / "kitchen" / "evaluation" / "test"
    assert (evaluation / "metrics.json").is_file() and (evaluation / "report.html").is_file()
    assert (tmp_path / "data" / "kitchen" / "frames" / "one.arrow").is_file()
