import json
from pathlib import Path

import pytest

from pipeline.errors import ProspectError
from pipeline.importers.video_names import sources_of


def touched(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")


def names(given, pattern="{stem}", groups=None):
    return {source.name: [video.name for video in source.videos] for source in sources_of(given, pattern, groups)}


def test_a_folder_stands_for_its_videos(tmp_path):
    touched(tmp_path, "b.mp4", "a.MKV", "notes.txt", "deep/er/c.webm", ".hidden.mp4", "frames.arrow")
    assert names([tmp_path]) == {"a": ["a.MKV"], "b": ["b.mp4"], "c": ["c.webm"]}
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProspectError, match=r"empty: found no videos in this folder, expected files of \.3gp, "):
        names([tmp_path / "empty"])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{grandparent}", ["T1", "T2"]),  # HoloAssist and WTaG, as ProAssist names them
        ("{parent}_{stem}", None),
        ("{parents}_{stem}", ["T1_Video_Video", "T2_Video_Video"]),
        ("x-{grandparent}.{stem}", ["x-T1.Video", "x-T2.Video"]),
    ],
)
def test_names_are_made_by_a_pattern(tmp_path, pattern, expected):
    touched(tmp_path, "T1/Video/Video.mpeg", "T2/Video/Video.mpeg")
    if expected is None:
        with pytest.raises(
            ProspectError, match=r"T1/Video/Video\.mpeg and .*T2/Video/Video\.mpeg would both become Video_Video"
        ):
            names([tmp_path], pattern)
    else:
        assert list(names([tmp_path], pattern)) == expected


def test_cameras_of_a_recording_are_named_as_proassist_names_them(tmp_path):
    touched(tmp_path, "nusar_1/HMC_1.mp4", "nusar_1/HMC_2.mp4", "nusar_2/HMC_1.mp4")
    assert list(names([tmp_path], "{parent}__{stem}")) == ["nusar_1__HMC_1", "nusar_1__HMC_2", "nusar_2__HMC_1"]


def test_folders_of_a_video_given_by_itself_are_those_written(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = [Path("x/y/v.mp4"), Path("../z/v.mp4"), Path("v.mp4")]
    assert list(names(given, "{parents}_{stem}")) == ["x_y_v", "z_v", "v"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{stm}", r"--name '\{stm\}': found \{stm\}, expected \{stem\}, \{parent\}, \{grandparent\}, \{parents\}"),
        ("a/{stem}", r"--name 'a/\{stem\}' of .*v\.mp4: 'a/v': found a path, expected the plain name"),
        ("", r"--name '' of .*v\.mp4: '': found a path"),
    ],
)
def test_patterns_that_give_no_name_are_refused(pattern, message):
    with pytest.raises(ProspectError, match=message):
        names([Path("v.mp4")], pattern)


def test_a_group_has_the_name_of_its_first(tmp_path):
    (tmp_path / "g.json").write_text(json.dumps([["c", "a"], ["d"]]))
    given = [Path(f"{name}.mp4") for name in "abcd"]
    assert names(given, groups=tmp_path / "g.json") == {"b": ["b.mp4"], "c": ["c.mp4", "a.mp4"], "d": ["d.mp4"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[", "cannot be read"),
        ('{"a": 1}', "expected a JSON list of lists of names"),
        ("[[]]", "expected a JSON list of lists of names"),
        ('[["a", "x"]]', "found 'x' which no video given has, expected names of the videos given"),
        ('[["a", 3]]', "found 3 which no video given has"),
        ('[["a", "b"], ["b"]]', "found 'b' twice, expected"),
    ],
)
def test_groups_that_cannot_be_are_refused(tmp_path, text, message):
    (tmp_path / "g.json").write_text(text)
    with pytest.raises(ProspectError, match=rf"--groups .*g\.json: .*{message}"):
        names([Path("a.mp4"), Path("b.mp4")], groups=tmp_path / "g.json")
