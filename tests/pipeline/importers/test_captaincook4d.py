"""CaptainCook4D's files to spans, against a small kitchen written by hand and the real annotations."""

import json
from pathlib import Path

import pytest

from pipeline.errors import InvalidInput, ProspectError
from pipeline.importers.captaincook4d import import_captaincook4d
from pipeline.importers.captaincook4d_files import step_name
from pipeline.spans.dataset import project
from pipeline.spans.records import NamedStep, Span, VideoSpans, read_spans
from tests.helpers.places import REAL

COOKS = REAL / "captaincook4d"
GRAPH = {
    "steps": {
        "0": "START",
        "1": "Add-1 leaf to the cup",
        "2": "Stir-Stir the cup",
        "3": "Boil -Boil water",
        "4": "pour-Slowly pour the water",
        "5": "Stir-Stir the cup",
        "6": "END",
    },
    "edges": [[4, 2], [0, 3], [0, 1], [3, 4], [1, 4], [2, 5], [5, 6]],
}
BOIL, ADD, POUR, STIR = "Boil -Boil water", "Add-1 leaf to the cup", "pour-Slowly pour the water", "Stir-Stir the cup"
STEPS = ("Add 1 leaf to the cup", "Boil water", "Slowly pour the water", "Stir the cup", "Stir the cup")


def step(description: str, start: float, end: float, *, error: bool = False, id: int = 7, **more) -> dict:
    return {
        "step_id": id,
        "start_time": start,
        "end_time": end,
        "description": description,
        "has_errors": error,
        **more,
    }


def recording(name: str, *steps: dict, activity: str = "Mint Tea") -> dict:
    about = {"recording_id": name, "activity_id": 1, "activity_name": activity, "person_id": 3, "environment": 8}
    return about | {"steps": list(steps)}


def kitchen(
    folder: Path, *recordings: dict, splits: dict | None = None, graph: dict = GRAPH, lengths: str = ""
) -> Path:
    """A folder with the files of a checkout."""
    names = [recording["recording_id"] for recording in recordings]
    for place in ("annotation_json", "data_splits", "task_graphs", "metadata"):
        (folder / place).mkdir(parents=True)
    steps = {recording["recording_id"]: recording for recording in recordings}
    (folder / "annotation_json" / "complete_step_annotations.json").write_text(json.dumps(steps))
    chosen = {"train": names, "val": [], "test": []} if splits is None else splits
    (folder / "data_splits" / "recordings_data_split_combined.json").write_text(json.dumps(chosen))
    (folder / "task_graphs" / "minttea.json").write_text(json.dumps(graph))
    rows = lengths or "".join(f"{name},8,3,1.67,100.0\n" for name in names)
    (folder / "metadata" / "video_information.csv").write_text(
        "recording_id,environment_id,person_id,duration(min),duration(sec)\n" + rows
    )
    return folder


def convert(source: Path, out: Path, split: str = "train", **more) -> tuple[list[VideoSpans], list[str]]:
    _, tally = import_captaincook4d(source, out, **more)
    return read_spans(out / f"{split}_spans.jsonl"), tally.lines()


def told(record: VideoSpans) -> list[tuple]:
    return [(span.step, span.start_s, span.end_s, span.outcome) for span in record.spans]


def test_a_recording_becomes_spans_of_its_recipes_steps(tmp_path):
    steps = step(BOIL, 1.5, 20), step(STIR, 40, 44.25), step(ADD, 15, 18, error=True), step(POUR, -1, -1, error=True)
    (record,), tally = convert(kitchen(tmp_path / "cook", recording("1_7", *steps)), tmp_path / "d")
    assert record == VideoSpans(
        video="1_7",
        dataset="captaincook4d",
        duration_s=100.0,
        steps=tuple(NamedStep(id=f"S{number}", name=name) for number, name in enumerate(STEPS, 1)),
        spans=(
            Span(step="S2", start_s=1.5, end_s=20, source="complete_step_annotations.json"),
            Span(step="S1", start_s=15, end_s=18, outcome="error", source="complete_step_annotations.json"),
            Span(step="S4", start_s=40, end_s=44.25, source="complete_step_annotations.json"),
        ),
        not_performed=("S3",),
        provenance={
            "importer": "captaincook4d",
            "activity": "Mint Tea",
            "person": 3,
            "environment": 8,
            "task_graph": "minttea.json",
            "nodes": {"S1": 1, "S2": 3, "S3": 4, "S4": 2, "S5": 5},
        },
    )
    assert tally == [
        "1 recordings read",
        "1 task graphs read",
        "0 steps with errors told in error_annotations.json",
        "3 spans",
        "1 spans with an error",
        "0 spans of a step worked on before",
        "1 steps not performed",
        "1 steps of a task graph without an entry",
        "1 videos, train",
        "0 videos, val",
        "0 videos, test",
    ]
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["train_spans.jsonl"]


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("Coat -Coat a cup", "Coat a cup"),
        ("stir-stir the cup", "stir the cup"),
        ("Add-1 egg", "Add 1 egg"),
        ("Measure and add-2 tbsp  water", "Measure and add 2 tbsp water"),
        ("Microwave -Continue to Microwave for 15-30 more seconds", "Continue to Microwave for 15-30 more seconds"),
        ("add-In a bowl, add the tomatoes", "In a bowl, add the tomatoes"),
        ("cut-cuticle oil", "cut cuticle oil"),
        ("Serve", "Serve"),
        ("-Serve", "Serve"),
        ("Serve-", "Serve"),
        ("-", "-"),
    ],
)
def test_a_steps_name_has_its_verb_once(description, name):
    assert step_name(description) == name


def test_a_step_that_the_recipe_has_twice_is_done_twice_and_then_repeated(tmp_path):
    """The annotation has one id and one text for both; the file's order is not that of time."""
    steps = step(STIR, 50, 60), step(STIR, 20, 30), step(STIR, 70, 75)
    (record,), tally = convert(kitchen(tmp_path / "cook", recording("1_7", *steps)), tmp_path / "d")
    assert told(record) == [("S4", 20, 30, "done"), ("S5", 50, 60, "done"), ("S5", 70, 75, "done")]
    assert "1 spans of a step worked on before" in tally


def test_of_a_step_twice_in_the_recipe_that_was_done_once_the_second_was_not_performed(tmp_path):
    steps = step(STIR, 20, 30), step(STIR, -1, -1), step(BOIL, -1, -1), step(BOIL, 5, 10)
    (record,), tally = convert(kitchen(tmp_path / "cook", recording("1_7", *steps)), tmp_path / "d")
    assert told(record) == [("S2", 5, 10, "done"), ("S4", 20, 30, "done")] and record.not_performed == ("S5",)
    assert tally[-1] == "1 entries 'not performed' of a step that was, left out: 1_7 'boil water'"


def test_a_misspelt_description_is_known_by_its_step_id_and_another_is_left_out_by_name(tmp_path):
    one = recording("1_7", step(BOIL, 1, 2, id=3))
    other = recording("1_8", step("Boil-Boil watter", 3, 4, id=3), step("Sing-Sing a song", 5, 6, id=9))
    (_, record), tally = convert(kitchen(tmp_path / "cook", one, other), tmp_path / "d")
    assert told(record) == [("S2", 3, 4, "done")]
    assert tally[-2:] == [
        "1 descriptions that the task graph lacks, read by their step_id: 1_8 'Boil-Boil watter'",
        "1 steps that the task graph lacks, left out: 1_8 'Sing-Sing a song'",
    ]


def test_a_misspelt_description_whose_step_id_has_two_others_is_left_out(tmp_path):
    steps = step(BOIL, 1, 2, id=3), step(ADD, 3, 4, id=3), step("Boil-Boil watter", 5, 6, id=3)
    (record,), tally = convert(kitchen(tmp_path / "cook", recording("1_7", *steps)), tmp_path / "d")
    assert told(record) == [("S2", 1, 2, "done"), ("S1", 3, 4, "done")]
    assert tally[-1] == "1 steps that the task graph lacks, left out: 1_7 'Boil-Boil watter'"


def test_errors_are_told_in_flags_where_their_file_is_there(tmp_path):
    source = kitchen(tmp_path / "cook", recording("1_7", step(BOIL, 1, 2, error=True), step(ADD, 3, 4)))
    errors = [{"tag": "Timing Error", "description": "Too short"}, {"tag": "Other"}]
    wrong = step(BOIL, 1, 2, errors=errors, modified_description="Boil-Boil milk")
    annotated = [{"recording_id": "1_7", "is_error": True, "step_annotations": [wrong, step(ADD, 3, 4)]}]
    (source / "annotation_json" / "error_annotations.json").write_text(json.dumps(annotated))
    (record,), tally = convert(source, tmp_path / "d")
    assert [span.flags for span in record.spans] == [
        ("Timing Error: Too short", "Other", "as done: Boil-Boil milk"),
        (),
    ]
    assert "1 steps with errors told in error_annotations.json" in tally


def test_times_outside_the_video_or_backwards_are_left_out_or_cut_by_name(tmp_path):
    steps = step(BOIL, 9, 8, id=1), step(ADD, 101, 102, id=2), step(POUR, 90, 100.75, id=3), step(STIR, 99, 100.5, id=4)
    (record,), tally = convert(kitchen(tmp_path / "cook", recording("1_7", *steps)), tmp_path / "d")
    assert told(record) == [("S3", 90, 100, "done"), ("S4", 99, 100.5, "done")]
    assert tally[-3:] == [
        "1 spans that end before they begin, left out: 1_7 step 1, 9.0 to 8.0 s",
        "1 spans that begin after their video's end, left out: 1_7 step 2, 101.0 to 102.0 s",
        "1 spans that end after their video, cut there: 1_7 step 3, 100.75 s",
    ]


def test_recordings_without_split_annotation_recipe_or_length_are_named(tmp_path):
    cake = recording("9_1", step(BOIL, 1, 2), activity="Cake")
    splits = {"train": ["1_7", "1_9", "9_1"], "val": [], "test": []}
    source = kitchen(
        tmp_path / "cook",
        recording("1_7", step(BOIL, 1, 2)),
        recording("1_8", step(BOIL, 1, 2)),
        cake,
        splits=splits,
        lengths="9_1,1,1,1,60\n",
    )
    (record,), tally = convert(source, tmp_path / "d")
    assert record.video == "1_7" and record.duration_s is None
    assert tally[-4:] == [
        "1 recordings without a length in video_information.csv: 1_7",
        "1 recordings of recordings_data_split_combined without annotation, left out: 1_9",
        "1 recordings without a task graph, left out: 9_1 (Cake)",
        "1 recordings in no split of recordings_data_split_combined, left out: 1_8",
    ]


def test_where_no_recording_can_be_used_the_reasons_are_told(tmp_path):
    source = kitchen(tmp_path / "cook", recording("1_7", step(BOIL, 1, 2)), splits={"train": ["1_9"]})
    with pytest.raises(ProspectError, match=r"cook: found nothing that can be used: 1 recordings of .* left out: 1_9$"):
        import_captaincook4d(source, tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_other_splits_are_chosen_by_the_name_of_their_file(tmp_path):
    source = kitchen(tmp_path / "cook", recording("1_7", step(BOIL, 1, 2)), recording("1_8", step(BOIL, 1, 2)))
    (source / "data_splits" / "recipes_data_split_normal.json").write_text('{"train": [], "val": [], "test": []}')
    (source / "data_splits" / "person_data_split_normal.json").write_text('{"train": ["1_7"], "test": ["1_8"]}')
    (record,), _ = convert(source, tmp_path / "d", "test", splits="person_data_split_normal")
    assert record.video == "1_8"
    with pytest.raises(ProspectError, match=r"recipes_data_split_normal.json: lists no recording; pass --splits with"):
        import_captaincook4d(source, tmp_path / "e", "recipes_data_split_normal")
    with pytest.raises(ProspectError, match=r"--splits ../x: found person_.*, recordings_.* in .*, expected one of"):
        import_captaincook4d(source, tmp_path / "e", "../x")
    assert not (tmp_path / "e").exists()


def test_every_mistake_in_the_form_of_a_file_is_told_and_nothing_is_written(tmp_path):
    source = kitchen(
        tmp_path / "cook", recording("1_7", step(BOIL, float("nan"), 2), step("", 1, 2) | {"step_id": None})
    )
    with pytest.raises(InvalidInput) as error:
        import_captaincook4d(source, tmp_path / "d")
    assert [problem.field for problem in error.value.problems] == [
        "1_7.steps.0.start_time",
        "1_7.steps.1.step_id",
        "1_7.steps.1.description",
    ]
    (source / "task_graphs" / "cake.json").write_text('{"steps": {"0": " ", "one": "Stir"}, "edges": [[0]]}')
    (source / "annotation_json" / "complete_step_annotations.json").write_text("{}")
    with pytest.raises(InvalidInput) as error:
        import_captaincook4d(source, tmp_path / "d")
    assert [str(problem).split(",")[0] for problem in error.value.problems] == [
        "cake.json: steps.0: found ' '",
        "cake.json: steps.one.[key]: found 'one'",
        "cake.json: edges.0.1: found nothing",
    ]
    (source / "annotation_json" / "complete_step_annotations.json").write_text("{")
    with pytest.raises(InvalidInput, match=r"complete_step_annotations.json: file: found .*Invalid JSON"):
        import_captaincook4d(source, tmp_path / "d")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1_7,8,3,1,long\n", "line 2: row: found '1_7', 'long', expected columns"),
        ("1_7\n", "line 2: row: found '1_7', None"),
    ],
)
def test_lengths_that_are_no_numbers_are_told_by_their_line(tmp_path, rows, message):
    source = kitchen(tmp_path / "cook", recording("1_7", step(BOIL, 1, 2)), lengths=rows)
    with pytest.raises(InvalidInput, match=message):
        import_captaincook4d(source, tmp_path / "d")


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([[1, 2], [2, 1]], r"minttea.json: found a circle of steps, \[.*\], expected an order"),
        ([[1, 9]], r"minttea.json: found edges of \[9\], expected steps that `steps` lists"),
    ],
)
def test_a_task_graph_without_an_order_is_refused(tmp_path, edges, message):
    source = kitchen(tmp_path / "cook", recording("1_7", step(BOIL, 1, 2)), graph=GRAPH | {"edges": edges})
    with pytest.raises(ProspectError, match=message):
        import_captaincook4d(source, tmp_path / "d")


def test_a_file_that_is_missing_or_there_twice_is_named(tmp_path):
    source = kitchen(tmp_path / "cook", recording("1_7", step(BOIL, 1, 2)))
    (source / "video_information.csv").write_text("")
    with pytest.raises(ProspectError, match=r"found .*, .*, expected one file video_information.csv"):
        import_captaincook4d(source, tmp_path / "d")
    (source / "video_information.csv").unlink()
    (source / "metadata" / "video_information.csv").unlink()
    with pytest.raises(ProspectError, match=r"found none, expected one file video_information.csv"):
        import_captaincook4d(source, tmp_path / "d")


def test_another_sources_folder_is_refused_with_its_importer(tmp_path):
    (tmp_path / "tea.txt").write_text("Instructions\n1. Boil water\n")
    with pytest.raises(ProspectError, match=r"found a dialogue of HowToDIV, .*; use prospect import howtodiv"):
        import_captaincook4d(tmp_path, tmp_path / "d")


def test_its_spans_become_clips(tmp_path):
    steps = step(BOIL, 1.5, 20), step(STIR, 40, 44.25), step(ADD, 15, 18, error=True), step(POUR, -1, -1)
    import_captaincook4d(kitchen(tmp_path / "cook", recording("1_7", *steps)), tmp_path / "d")
    path, counts = project(tmp_path / "d" / "train_spans.jsonl", tmp_path / "d")
    (clip,) = map(json.loads, path.read_text().splitlines())
    updates = [(turn["start_frame"], turn["content"][0]) for turn in clip["conversation"]]
    assert [(frame, f"{update['id']}->{update['transition']}") for frame, update in updates] == [
        (3, "S2->start"),
        (30, "S1->start"),
        (36, "S1->complete"),
        (40, "S2->complete"),
        (80, "S4->start"),
        (88, "S4->complete"),
    ]
    assert counts["steps never performed"] == 2


@pytest.mark.skipif(not COOKS.is_dir(), reason="no real annotations here")
def test_the_real_annotations_are_read_whole(tmp_path):
    """As many spans and absent steps as the file has entries; the last of all is left out and named."""
    entries = [
        step
        for recording in json.loads((COOKS / "complete_step_annotations.json").read_text()).values()
        for step in recording["steps"]
    ]
    _, tally = import_captaincook4d(COOKS, tmp_path / "d")
    records = [record for path in sorted((tmp_path / "d").iterdir()) for record in read_spans(path)]
    assert len(records) == 264 and len(entries) == 3866
    assert sum(len(record.spans) for record in records) == 3675 == sum(step["start_time"] >= 0 for step in entries)
    assert sum(len(record.not_performed) for record in records) == 190
    assert [line.split(":")[0] for line in tally.lines() if ":" in line] == [
        "120 recordings of recordings_data_split_combined without annotation, left out",
        "1 entries 'not performed' of a step that was, left out",
        "1 descriptions that the task graph lacks, read by their step_id",
    ]
