import json
import shutil

import pytest
from starlette.testclient import TestClient

from pipeline.errors import ProspectError
from pipeline.shards.sample import key_of
from prospect.evaluation.predictions import write_prediction
from prospect.web.browse.publish import publish
from prospect.web.browse.shell import make_browse
from prospect.web.server import Address
from tests.helpers.browse import library_of, sections_of
from tests.helpers.fakes import raw_clip, write_frames, write_root
from tests.helpers.predictions import prediction


@pytest.fixture(scope="module")
def clips(world):
    return sections_of(*world.every)[0]


def asked(root, *paths):
    app = make_browse(sections_of(root, *paths), Address("127.0.0.1", 8000, None))
    return TestClient(app, base_url="http://127.0.0.1:8000")


def test_a_clip_that_several_paths_have_is_there_once(clips, world):
    assert list(clips.library.places) == [world.key(video) for video in ("v1", "v2", "v3")]
    assert list(library_of(world.shards).places) == [world.key(video) for video in ("v3", "v1", "v2")]
    assert list(library_of(world.run).places) == [world.key("v3")]
    assert library_of(world.run).about(world.key("v3"))["of"] == "x/test"


def test_the_same_clip_is_shown_whatever_it_is_read_from(world):
    key = world.key("v3")
    (one, *_), (two, *_), (three, *_) = sections_of(world.data), sections_of(world.shards), sections_of(world.run)
    names = ("title", "first", "last", "fps", "bars", "states", "turns", "steps", "goal", "num_problems", "silence")
    views = [[section.clip(key)[name] for name in names] for section in (one, two, three)]
    assert views[1] == views[0] and views[2] == views[0]


@pytest.mark.parametrize(
    ("query", "videos"),
    [
        ({}, "v1 v2 v3"), ({"text": "HELLO"}, "v1 v2"), ({"text": "clock"}, "v3"), ({"text": "v2-c"}, "v2"),
        ({"text": "s1->start"}, "v1 v3"), ({"text": ".*"}, ""), ({"step": "take it"}, "v1 v2 v3"), ({"step": "s1 turn"}, "v3"),
        ({"kind": "user"}, "v1 v2"), ({"kind": "update"}, "v1 v3"), ({"of": "x/test"}, "v3"), ({"of": "nowhere"}, ""),
        ({"error": "wrong_update"}, "v3"), ({"error": "missed_update", "run": "r/test"}, "v3"),
        ({"error": "false_update"}, ""), ({"kind": "user", "step": "put", "text": "begun"}, "v1"),
    ],
)  # fmt: skip
def test_filters_find_clips(clips, world, query, videos):
    assert clips.found(query) == [world.key(video) for video in videos.split()]


def test_cards_are_paged_and_say_what_happens(clips, world):
    answer = clips.cards({"from": "1", "count": "1"})
    assert (answer["total"], [card["title"] for card in answer["cards"]]) == (3, ["v2-c000"])
    (card,) = clips.cards({"text": "v3-c"})["cards"]
    assert (card["seconds"], card["num_steps"], card["num_update"], card["num_problems"]) == (9.0, 2, 2, 0)
    assert card["mistakes"] == {
        "r/test": {"wrong_update": 1, "missed_update": 2, "missed_speech": 1, "redundant_speech": 1}
    }
    assert [tile["frame"] for tile in card["tiles"] if tile["what"]] == [6, 12] and len(card["tiles"]) == 6
    by_frame = {tile["frame"]: [what["label"] for what in tile["what"]] for tile in card["tiles"]}
    assert by_frame[6] == ["S1 start", "Turn it twice."] and by_frame[12] == ["S1 complete", "S2 start"]


def test_a_clip_s_page_has_its_samples_and_the_command(clips, world):
    view = clips.clip(world.key("v3"))
    assert [(sample["kind"], sample["end_frame"]) for sample in view["samples"]][:2] == [
        ("silent", 4),
        ("dst_update", 6),
    ]
    assert view["command"] == f"prospect inspect-shard {world.shards}/x/test"
    assert view["tokens_of"] == f" --tokens --config {world.run}/config.yaml"
    (compared,) = view["compared"].values()
    assert compared["disagreements"][0]["kind"] == "wrong_step"
    bare = sections_of(world.data)[0].clip(world.key("v1"))
    assert (bare["samples"], bare["list_command"]) == ([], "prospect inspect-shard shards/x/train --clip v1-c000")


def test_tokens_are_those_of_training_with_cuts_and_drawn_negatives(clips, world):
    answer = clips.answer(["tokens", world.key("v3")], {})
    assert answer["told"] == ""
    (part,) = answer["parts"]
    frames = [item for block in part["blocks"] for item in block["items"] if "frame" in item]
    assert [item["frame"] for item in frames] == list(range(2, 20))
    assert next(item["decision"] for item in frames if item["frame"] == 6) == [1, 0]
    assert {item["drawn"] for item in frames if item["decision"] == [0, 0]} <= {True, False}
    without = sections_of(world.data)[0].answer(["tokens", world.key("v3")], {})
    assert without["parts"] == [] and "name a run among the paths, or pass --config" in without["told"]


def test_clips_with_mistakes_open_marked(tmp_path):
    wrong = raw_clip(conversation=[{"role": "nobody", "content": 3, "start_frame": 5, "end_frame": 4}, "text"])
    again = raw_clip()
    lone = raw_clip(
        video_uid="v\ud800", conversation=[{"role": "user", "content": "\udfff", "start_frame": 3, "end_frame": 4}]
    )
    write_frames(tmp_path / "x" / "frames" / "v1.arrow", 20)
    (tmp_path / "x" / "train_training.json").write_text(json.dumps([wrong, 7, again, again, lone, {}]))
    client = asked(tmp_path)
    cards = client.get("/api/clips/cards").json()["cards"]
    assert [card["num_problems"] > 0 for card in cards] == [True, True, False, False, True, True]
    assert len({card["key"] for card in cards}) == 6
    for card in cards:
        assert client.get(f"/api/clips/clip/{card['key']}").json()["num_problems"] == pytest.approx(
            card["num_problems"], abs=2
        )
    assert client.get("/api/datasets/checks/x/train").json()["with_problems"] == 4


HUGE = 10**30


@pytest.mark.parametrize(
    "changes",
    [
        {"start_frame_idx": HUGE}, {"end_frame_idx": HUGE}, {"fps": 5e-324}, {"fps": float("nan")}, {"fps": "2"},
        {"fps": True}, {"dataset": "\ud800"}, {"dataset": "../.."}, {"dst": 5}, {"dst": [None, {"id": 5}]},
        {"clip_idx": HUGE}, {"video_uid": None}, {"id": ["x"]}, {"conversation": None}, {"conversation": [None, [1], "x"]},
        {"conversation": [{"role": "assistant", "content": "x", "start_frame": HUGE, "end_frame": HUGE}]},
        {"conversation": [{"role": "assistant", "content": "x", "start_frame": -HUGE, "end_frame": -1}]},
        {"conversation": [{"role": "assistant", "content": {"a": float("inf")}, "time": HUGE}]},
        {"conversation": [{"role": "DST_UPDATE", "content": [{"id": None}, 3, {}], "start_frame": 3, "end_frame": 4}]},
        {"frames_file": "x" * 5000}, {"frames_file": "a\0b"}, {"frames_file": ""}, {"goal": [3]},
    ],
)  # fmt: skip
def test_whatever_stands_in_a_clip_it_opens_and_is_published(tmp_path, changes):
    write_frames(tmp_path / "data" / "x" / "frames" / "v1.arrow", 20)
    (tmp_path / "data" / "x" / "train_training.json").write_text(json.dumps([raw_clip() | changes]))
    client = asked(tmp_path / "data")
    (card,) = client.get("/api/clips/cards").json()["cards"]
    assert client.get(f"/api/clips/clip/{card['key']}").status_code == 200
    assert client.get("/").status_code == client.get("/api/datasets/split/x/train").status_code == 200
    listed = sections_of(tmp_path / "data")
    assert publish(listed[0].library, listed, tmp_path / "out", 5).num_clips == 1


def test_frames_of_a_dataset_are_found_whatever_its_clips_call_it(world, tmp_path):
    write_root(tmp_path, [raw_clip(dataset="another", frames_file="frames/v1.arrow")])
    (card,) = sections_of(tmp_path)[0].cards({})["cards"]
    assert card["frames"]["missing"] == "" and card["key"] == key_of("another", "v1-c000")


def test_frames_come_from_the_roots_alone(world, tmp_path):
    outside = tmp_path / "elsewhere" / "secret.arrow"
    write_frames(outside, 20)
    named = [
        raw_clip(video_uid="a", frames_file=str(outside)),
        raw_clip(video_uid="b", frames_file="../../elsewhere/secret.arrow"),
    ]
    (tmp_path / "data" / "x").mkdir(parents=True)
    (tmp_path / "data" / "x" / "train_training.json").write_text(json.dumps(named))
    client = asked(tmp_path / "data")
    for card in client.get("/api/clips/cards").json()["cards"]:
        assert "outside the folders given" in card["frames"]["missing"]
        answer = client.get(f"/frames/{card['key']}/3.jpg")
        assert answer.status_code == 400 and "--frames-root" in answer.json()["error"]
    client = asked(world.data)
    key = world.key("v1")
    assert client.get(f"/frames/{key}/3.jpg?h=64").headers["content-type"] == "image/jpeg"
    for path, status in (
        (f"/frames/{key}/99.jpg", 400), (f"/frames/{key}/x.jpg", 400), ("/frames/none/3.jpg", 400),
        ("/frames/..%2F..%2Fetc/3.jpg", 404), ("/api/clips/clip/none", 400), ("/api/none/x", 404), ("/api/clips/x", 400),
        ("/static/../../config.py", 404), ("/api/datasets/split/none", 400), ("/api/clips/cards?kind=x", 400),
        ("/api/clips/cards?error=missed_update&run=x", 400), ("/api/clips/cards?from=-1&count=zz", 200),
    ):  # fmt: skip
        assert client.get(path).status_code == status, path


def test_pictures_in_shards_are_shown_without_the_frames(tmp_path):
    from pipeline.shards.build import build_split
    from pipeline.shards.scan import Options

    write_root(tmp_path / "data", [raw_clip()])
    build_split(tmp_path / "data", "x", "train", tmp_path / "shards", options=Options(embed_frames=True))
    shutil.rmtree(tmp_path / "data")
    clips = sections_of(tmp_path / "shards")[0]
    (key,) = clips.library.places
    assert all(clips.picture(key, frame, None)[:2] == b"\xff\xd8" for frame in (2, 6, 19))
    with pytest.raises(ProspectError, match="frame 20: not in the samples"):
        clips.picture(key, 20, None)


def test_a_model_without_states_has_no_wrong_updates(world, tmp_path):
    spoken = prediction([(5, "Go.")], [(5, "S1->start"), (5, "Go.")])
    spoken = type(spoken)(spoken.clip, spoken.frames, {"memory": "none"})
    write_prediction(tmp_path / "v-c000-x.json", spoken)
    clips = sections_of(tmp_path)[0]
    assert [card["mistakes"] for card in clips.cards({})["cards"]] == [{}]


def test_a_prediction_that_cannot_be_read_hides_no_clip(world, tmp_path):
    folder = tmp_path / "predictions" / "model"
    folder.mkdir(parents=True)
    (folder / f"{world.key('v1')}.json").write_text("{")
    client = asked(world.data, tmp_path)
    cards = client.get("/api/clips/cards").json()["cards"]
    assert [bool(card["broken"]) for card in cards] == [True, False, False]
    assert "cannot be read as a prediction" in cards[0]["broken"][0]
    (compared,) = client.get(f"/api/clips/clip/{world.key('v1')}").json()["compared"].values()
    assert "remove it and evaluate again" in compared["told"]
    answer = client.get("/api/clips/cards?error=missed_update")
    assert answer.status_code == 400 and "remove it and evaluate again" in answer.json()["error"]
