"""Frames files of videos: by the video's name, with and without the task that ProAssist puts before it."""

import json

import pytest

from pipeline.errors import InvalidInput
from pipeline.spans.dataset import project
from pipeline.spans.records import NamedStep, Span, VideoSpans, write_records
from tests.helpers.fakes import write_frames


def spans(path, video: str):
    span = Span(step="S1", start_s=1, end_s=2)
    write_records(path, [VideoSpans(video=video, dataset="d", steps=(NamedStep(id="S1", name="x"),), spans=(span,))])
    return path


@pytest.mark.parametrize(
    ("video", "file"),
    [
        ("nusar-1", "nusar-1"),
        ("assembly_nusar-1", "nusar-1"),
        ("disassembly_nusar-1", "nusar-1"),
        ("nusar-1", "assembly_nusar-1"),
        ("disassembly_nusar-1", "assembly_nusar-1"),
        ("distant", "distant"),
    ],
)
def test_a_video_meets_its_frames_file_with_and_without_the_task_before_its_name(tmp_path, video, file):
    write_frames(tmp_path / "frames" / f"{file}.arrow", 8)
    path, _ = project(spans(tmp_path / "train_spans.jsonl", video), tmp_path / "d", frames_root=tmp_path / "frames")
    (line,) = path.read_text().splitlines()
    clip = json.loads(line)
    assert (clip["video_uid"], clip["frames_file"], clip["end_frame_idx"]) == (video, f"frames/{file}.arrow", 7)


def test_the_file_of_the_videos_own_name_goes_first_and_no_other_name_is_tried(tmp_path):
    write_frames(tmp_path / "frames" / "nusar-1.arrow", 8)
    write_frames(tmp_path / "frames" / "assembly_nusar-1.arrow", 9)
    found = spans(tmp_path / "train_spans.jsonl", "assembly_nusar-1")
    path, _ = project(found, tmp_path / "d", frames_root=tmp_path / "frames")
    assert json.loads(path.read_text())["frames_file"] == "frames/assembly_nusar-1.arrow"
    write_frames(tmp_path / "frames" / "tant.arrow", 8)
    with pytest.raises(InvalidInput, match=r"video 'distant': video: found no frames file, expected distant.arrow in "):
        project(spans(tmp_path / "val_spans.jsonl", "distant"), tmp_path / "d", frames_root=tmp_path / "frames")
