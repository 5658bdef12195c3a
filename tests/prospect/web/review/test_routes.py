import json
import os

import pytest
from starlette.testclient import TestClient

from pipeline.errors import ProspectError
from pipeline.io.storage import LocalFolder
from pipeline.shards.sample import clip_key
from prospect.evaluation.predictions import write_prediction
from prospect.web.review.disagreements import Predictions
from prospect.web.review.documents import Documents
from prospect.web.review.routes import make_review
from prospect.web.review.views import checked
from prospect.web.server import Address
from tests.helpers.predictions import prediction
from tests.helpers.review import clip, diff, review_root

FILE = "/api/files/x/train_training.json"
ENTRY = "/api/entry/x/train_training.json"


class Page:
    """What the page does: it asks with the revision that it was given last."""

    def __init__(self, root, predictions=None, entry=0):
        app = make_review(Documents(root), predictions, Address("127.0.0.1", 8000, None))
        self.client = TestClient(app, base_url="http://127.0.0.1:8000")
        self.at = f"{ENTRY}/{entry}"
        self.view = self.client.get(self.at).json()

    def post(self, what, **value):
        answered = self.client.post(f"{self.at}/{what}", json={"revision": self.view["revision"], **value})
        if answered.status_code == 200:
            self.view = answered.json()
        return answered

    def change(self, kind, **values):
        return self.post("change", change={"kind": kind, **values})


@pytest.fixture
def root(tmp_path):
    review_root(tmp_path / "data")
    return tmp_path / "data"


def test_an_entry_is_shown_with_its_bars_and_states(root):
    view = Page(root).view
    assert (view["title"], view["first"], view["last"], view["num_problems"]) == ("v1", 2, 19, 0)
    assert [(bar["step"], bar["from"], bar["to"], bar["state"]) for bar in view["bars"]] == [
        ("S1", 6, 13, "completed"), ("S2", 12, 20, "in_progress")
    ]  # fmt: skip
    assert view["states"] == {
        "S1": [[2, "not_started"], [6, "in_progress"], [12, "completed"]],
        "S2": [[2, "not_started"], [12, "in_progress"]],
    }
    assert view["frames"] == {"count": 20, "aspect": 0.0, "missing": ""}


def test_a_moved_event_is_all_that_git_shows(root):
    page = Page(root)
    assert page.change("move", turn=4, start_by=2, end_by=2).status_code == 200
    assert diff(root) == []  # until it is saved
    assert page.view["is_changed"] and page.post("save").status_code == 200 and not page.view["is_changed"]
    assert [line.strip("+- ") for line in diff(root)] == [
        '"start_frame": 10,',
        '"end_frame": 12,',
        '"start_frame": 12,',
        '"end_frame": 14,',
    ]


def test_a_new_event_is_checked_and_its_states_are_computed(root):
    page = Page(root)
    page.change("mark", frame=16, step="S2")
    assert page.view["num_problems"] == 0
    page.post("save")
    new = ["{", '"role": "DST_UPDATE",', '"content": [', "{", '"id": "S2",', '"transition": "complete"', "}", "],",
           '"start_frame": 16,', '"end_frame": 16,', '"dst_state": {', '"S1": "completed",', '"S2": "in_progress"', "}", "}"]  # fmt: skip
    assert [(line[0], line[1:].strip()) for line in diff(root)] == [("+", line) for line in ["},", *new[:-1]]]


def test_problems_stand_at_their_turns_and_bad_changes_are_sentences(root):
    page = Page(root)
    page.change("mark", frame=8, step="S1", transition="start")
    assert [turn["number"] for turn in page.view["turns"] if turn["problems"]] == [4]
    assert page.view["turns"][4]["problems"] == [
        "content.S1: found S1->start while S1 is in_progress, expected S1 not_started"
    ]
    for change, told in (
        ({"kind": "mark", "frame": 15, "step": "S1"}, "S1 is completed already at frame 15"),
        ({"kind": "mark", "frame": 15, "step": "S9"}, "step 'S9' is not one of the clip's"),
        ({"kind": "move", "turn": 99, "start_by": 1, "end_by": 1}, "turn 99: there is none"),
        ({"kind": "say", "frame": 3, "role": "assistant", "text": " "}, "this cannot be done"),
        ({"kind": "move", "turn": 1, "start_by": "1", "end_by": 1}, "this cannot be done"),
        ({"kind": "nothing"}, "this cannot be done"),
        (None, "this cannot be done"),
    ):
        answered = page.post("change", change=change)
        assert answered.status_code == 400 and told in answered.json()["error"], change
    lone = b'{"revision": 1, "change": {"kind": "say", "frame": 3, "role": "user", "text": "\\ud800"}}'
    assert "this cannot be done" in page.client.post(f"{page.at}/change", content=lone).json()["error"]


def test_undo_goes_back_beyond_a_save_to_the_very_bytes(root):
    path = root / "x" / "train_training.json"
    before = path.read_bytes()
    page = Page(root)
    page.change("text", turn=1, text="Good morning")
    page.change("move", turn=1, start_by=1, end_by=1)
    page.post("save")
    assert path.read_bytes() != before and (root / "x" / "train_training.json.orig").read_bytes() == before
    page.post("undo")
    assert page.view["is_changed"] and page.view["turns"][1]["start"] == 3
    page.post("undo")
    page.post("undo")  # there is nothing before
    assert not page.view["can_undo"]
    page.post("save")
    assert path.read_bytes() == before
    page.post("redo")
    assert page.view["turns"][1]["text"] == "Good morning"


def test_a_second_tab_that_is_behind_is_told_and_changes_nothing(root):
    one, two = Page(root), Page(root)
    two.client = one.client  # of the same server
    one.change("move", turn=1, start_by=1, end_by=1)
    answered = two.change("remove", turn=1)
    assert answered.status_code == 409 and "changed in another tab" in answered.json()["error"]
    assert one.client.get(one.at).json()["turns"][1]["start"] == 4


def test_a_file_that_changed_on_disk_is_not_written_over(root):
    path = root / "x" / "train_training.json"
    page = Page(root)
    page.change("text", turn=1, text="Good morning")
    other = json.loads(path.read_text())
    other[1]["note"] = "changed by another program"
    path.write_text(json.dumps(other, indent=1, ensure_ascii=False))
    answered = page.post("save")
    assert answered.status_code == 409 and "nothing was saved; your changes are kept" in answered.json()["error"]
    assert json.loads(path.read_text()) == other
    assert page.client.post(f"{FILE}/reload", json={}).status_code == 200
    page.view = page.client.get(page.at).json()
    assert page.view["turns"][1]["text"] == "Good morning"
    assert page.post("save").status_code == 200
    assert [one["note"] for one in json.loads(path.read_text())] == ["metadata", "changed by another program"]


def test_an_entry_that_changed_here_and_on_disk_is_asked_about(root):
    path = root / "x" / "train_training.json"
    page = Page(root)
    page.change("text", turn=1, text="Good morning")
    path.write_text(path.read_text().replace("Hello", "Hi"))
    answered = page.client.post(f"{FILE}/reload", json={})
    assert (
        answered.status_code == 409
        and "entry 0 of train_training.json changed here and on disk" in answered.json()["error"]
    )
    assert page.client.get(page.at).json()["turns"][1]["text"] == "Good morning"
    assert page.client.post(f"{FILE}/reload", json={"drop": 0}).status_code == 200
    assert page.client.get(page.at).json()["turns"][1]["text"] == "Hi"


def test_a_folder_that_may_not_be_written_loses_nothing(root, monkeypatch):
    def refuse(*_):
        raise OSError(30, "Read-only file system")

    page = Page(root)
    page.change("text", turn=1, text="Good morning")
    monkeypatch.setattr(LocalFolder, "new_file", refuse)
    answered = page.post("save")
    assert answered.status_code == 400
    assert answered.json()["error"].startswith(
        "train_training.json cannot be saved (Read-only file system); nothing is lost here: make "
    )
    monkeypatch.undo()
    assert page.client.get(page.at).json()["is_changed"]
    assert page.post("save").status_code == 200


def test_a_saved_file_keeps_its_rights_and_a_link_stays_a_link(root):
    path = root / "x" / "train_training.json"
    real = root / "elsewhere.json"
    path.rename(real)
    real.chmod(0o640)
    path.symlink_to(real)
    page = Page(root)
    page.change("text", turn=1, text="Good morning")
    page.post("save")
    assert path.is_symlink() and "Good morning" in real.read_text() and os.stat(real).st_mode & 0o777 == 0o640


def test_a_clip_with_errors_opens_and_is_marked(tmp_path):
    broken = clip(
        fps="two",
        dst=[{"id": "S 1", "name": ""}],
        conversation=[1, {"role": "user", "content": 3, "start_frame": 9, "end_frame": 3}, {"role": "nobody"}],
    )
    review_root(tmp_path / "data", [broken, clip(video_uid="v2", frames_file="nowhere.arrow"), "no clip"])
    page = Page(tmp_path / "data")
    assert page.view["num_problems"] > 3 and len(page.view["turns"]) == 3 and page.view["turns"][0]["problems"]
    listed = page.client.get(FILE).json()["entries"]
    assert [bool(one["num_problems"]) for one in listed] == [True, False, True]
    missing = page.client.get(f"{ENTRY}/1").json()
    assert "not found" in missing["frames"]["missing"] and missing["num_problems"] == 1
    assert "found no object" in page.client.get(f"{ENTRY}/2").json()["error"]
    assert page.change("say", frame=4, role="user", text="Hello").status_code == 200


def test_files_that_are_no_json_are_a_sentence_and_no_other_file_is_read(root):
    (root / "x" / "train_training.json").write_text("[{")
    client = TestClient(
        make_review(Documents(root), None, Address("127.0.0.1", 8000, None)), base_url="http://127.0.0.1:8000"
    )
    assert "not valid JSON" in client.get(FILE).json()["error"]
    for path in ("/api/files/x/secret.json", "/api/files/..%2f/etc", "/api/files/x/..%2f..%2fetc%2fpasswd", "/api/entry/x/train_training.json/99",
                 "/frames/x/none.json/0/1.jpg", "/api/entry/x/train_training.json/-1"):  # fmt: skip
        assert client.get(path).status_code in (400, 404), path


def test_a_transition_of_several_and_a_bar_are_moved(root):
    page = Page(root)
    bar = page.view["bars"][0]
    assert (bar["start"], bar["end"]) == ({"turn": 2, "place": 0}, {"turn": 4, "place": 0})
    page.change("move_edges", edges=[bar["end"]], by=3)
    assert [(one["step"], one["from"], one["to"]) for one in page.view["bars"]] == [("S1", 6, 16), ("S2", 12, 20)]
    page.change("move_edges", edges=[page.view["bars"][0]["start"], page.view["bars"][0]["end"]], by=-2)
    assert [(one["step"], one["from"], one["to"]) for one in page.view["bars"]] == [("S1", 4, 14), ("S2", 12, 20)]
    assert page.view["num_problems"] == 0


@pytest.fixture
def compared(root, tmp_path):
    """The model starts S1 two frames late, misses S1's end, finds an end of S2, and speaks at 17."""
    streamed = prediction(
        [(8, "S1->start"), (12, "S2->start"), (18, "S2->complete"), (17, "Done."), (6, "Well begun.")],
        [],
        frames=(2, 19),
        dataset="x",
        clip_id="v1-c000",
    )
    documents = Documents(root)
    file = documents.file("x", "train_training.json")
    made, _ = checked(documents, file, documents.entry(file, 0).draft)
    write_prediction(tmp_path / "found" / f"{clip_key(made)}.json", streamed)
    return Page(root, Predictions(tmp_path / "found"))


def named(page):
    return [(one["kind"], (one["predicted"] or one["reference"])["frame"]) for one in page.view["disagreements"]]


def test_disagreements_come_worst_first(compared):
    assert named(compared) == [("missed", 12), ("spurious", 18), ("spurious", 17), ("late", 8)]
    assert [one["actions"] for one in compared.view["disagreements"]] == [
        ["accept"],
        ["accept", "missed"],
        ["accept", "missed"],
        ["accept", "shift"],
    ]
    assert [one["num_disagreements"] for one in compared.client.get(FILE).json()["entries"]] == [4, 0]


def test_disagreements_are_settled(compared, root):
    compared.post("settle", number=3, action="shift")
    assert named(compared) == [("missed", 12), ("spurious", 18), ("spurious", 17)]
    compared.post("settle", number=1, action="missed")
    turn = next(
        turn for turn in compared.view["turns"] if turn["updates"] == [{"step": "S2", "transition": "complete"}]
    )
    assert turn["start"] == 18
    compared.post("settle", number=1, action="accept")
    assert [turn["text"] for turn in compared.view["turns"] if turn["role"] == "assistant"] == ["Well begun.", "Done."]
    compared.post("settle", number=0, action="accept")  # the model is right: S1 was not completed there
    assert named(compared) == []
    assert {bar["step"]: bar["state"] for bar in compared.view["bars"]} == {"S1": "in_progress", "S2": "completed"}
    compared.post("save")
    saved = json.loads((root / "x" / "train_training.json").read_text())[0]["conversation"]
    assert [turn.get("review") for turn in saved if turn.get("review")] == ["missed by the annotator"]
    answered = compared.post("settle", number=0, action="accept")
    assert answered.status_code == 400 and "gone" in answered.json()["error"]


def test_a_folder_without_predictions_is_refused(tmp_path):
    with pytest.raises(ProspectError, match=r"no such folder; pass an evaluation's"):
        Predictions(tmp_path / "none")
    with pytest.raises(ProspectError, match="found no predictions"):
        Predictions(tmp_path)
