"""Statistics by hand, and the token view against the sequence that trains."""

from pathlib import Path

import pytest
from rich.console import Console

from pipeline.annotations.validate import check_clip
from pipeline.shards.build import build_split
from pipeline.shards.reader import find_sample, shards_at
from pipeline.shards.scan import Options
from prospect.config import DataConfig
from prospect.layout import Tokens
from prospect.looking.stats import statistics
from prospect.looking.token_view import sequence_of, token_data, token_rows, token_view
from prospect.setup import Blueprint
from tests.helpers.fakes import RAW_CLIP, clip_texts, pieces, raw_clip, word_tokenizer, write_root


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    silent = raw_clip(video_uid="v1", frames_file="frames/v1.arrow", fps=4, conversation=[])
    write_root(folder / "data", [raw_clip(video_uid="v0", frames_file="frames/v0.arrow"), silent])
    options = Options(max_silent_frames=4, max_shard_samples=7)
    build_split(folder / "data", "x", "train", folder / "shards", options=options)
    return folder / "shards" / "x" / "train"


def test_statistics_by_hand(split):
    """Clip v0 has 18 frames at 2 a second, with events at 6 (from 4 on) and 12 (from 10 on); v1 has 18 silent ones at 4 a second."""
    found = statistics(shards_at(str(split)))
    distributions = found.pop("distributions")
    assert found == {
        "shards": 2,
        "clips": 2,
        "samples": 12,
        "kinds": {"dst_update": 2, "assistant": 1, "silent": 9},
        "frames": 36,
        "silent_frames": 34,
        "silence_ratio": 0.9444,
        "event_ranges": 2,
        "contiguous_ranges": 0,
        "seconds": 13.5,
    }
    updates = distributions["updates a clip"]
    assert (updates["min"], updates["mean"], updates["max"]) == (0, 1.5, 3), "two transitions stand in one turn"
    assert [(b["from"], b["to"], b["count"]) for b in updates["histogram"]] == [
        (0, 0, 1),
        (1, 1, 0),
        (2, 2, 0),
        (3, 3, 1),
    ]
    words = distributions["words an utterance"]
    assert (words["min"], words["max"]) == (2, 2), "'Well begun.'"
    runs = distributions["frames a silent sample"]
    assert (runs["min"], runs["max"], runs["mean"]) == (2, 4, round(30 / 9, 2))


def test_a_shard_and_its_split_give_the_same_statistics(split):
    whole = statistics(shards_at(str(split)))
    parts = [statistics(shards_at(str(path))) for path in sorted(split.glob("*.tar"))]
    for name in ("clips", "samples", "frames", "silent_frames", "event_ranges", "seconds"):
        assert sum(part[name] for part in parts) == whole[name]


def laid_of(key: str, split: Path, **data):
    clip, _ = check_clip(raw_clip(), index=0, file="", dataset="x", open_frames=None)
    tokenizer = word_tokenizer([*clip_texts(clip), *(turn["content"] for turn in RAW_CLIP["conversation"][:1])])
    sample, _, samples = find_sample(shards_at(str(split)), key)
    blueprint = Blueprint(tokenizer, Tokens(tokenizer, 2), None)
    return sequence_of(sample, samples, blueprint.tokens, DataConfig(reserve=40, **data)), blueprint


def printed(data) -> tuple[str, dict[str, str]]:
    """What a terminal without colours shows, in one line with single spaces; and the style of each text."""
    console = Console(width=200, no_color=True, force_terminal=False, record=False)
    segments = [segment for line in console.render_lines(token_view(data)) for segment in line]
    text = " ".join("".join(segment.text for segment in segments).split())
    return text, {segment.text.strip(): str(segment.style) for segment in segments if segment.style}


def test_the_token_view_shows_what_is_trained(split):
    laid, blueprint = laid_of("v0-c000-8d619e48-0002", split)
    sequence, tokenizer = laid.sequence, blueprint.tokenizer
    assert len(sequence.frames) == 18, "the whole clip fits"
    rows = token_rows(sequence, tokenizer)
    assert [row["text"] for row in rows] == [tokenizer.decode([i]) for i in sequence.ids]
    labelled = [
        (row["position"], row["should_update_dst"], row["when_to_speak"])
        for row in rows
        if row["when_to_speak"] is not None
    ]
    assert [label[1:] for label in labelled][:5] == [(0, 0), (0, 0), (0, 0), (0, 0), (1, 0)]
    spoken = "".join(p for p, row in zip(pieces(tokenizer, sequence.ids), rows, strict=True) if row["target"] == "lm")
    assert spoken == " Well begun.<end_of_utterance>"
    data = token_data(laid, blueprint)
    items = [item for block in data["blocks"] for item in block["items"]]
    assert [item["text"] for item in items if "text" in item] == [
        row["text"] for row in rows if row["text"] != "<image>"
    ]
    by_place = {row["position"]: row for row in rows}
    for item in items:
        row = by_place[item["at"]]
        decision = [row["should_update_dst"], row["when_to_speak"]]
        assert item["decision"] == (None if decision == [None, None] else decision)


def test_a_terminal_shows_two_decisions_in_two_colours_and_words(split):
    text, styles = printed(token_data(*laid_of("v0-c000-8d619e48-0002", split)))
    assert "[frame 6: 2 x <image>] (1,0) update DST DST:« S1->start│<end_of_utterance>»⏎ (0,1) speak" in text
    assert "assistant Assistant:« Well│ begun.│<end_of_utterance>»⏎ (0,0) silent" in text
    assert "[frame 4: 2 x <image>] (0,0) silent [frame 5: 2 x <image>] (0,0) silent" in text
    assert "18 frames of 2 <image> tokens the whole clip in one part" in text and "not drawn" not in text
    assert len({styles[word] for word in ("(1,0) update", "(0,1) speak", "(0,0) silent")}) == 3


def test_silent_frames_that_the_first_epoch_leaves_out_are_named(split):
    laid, blueprint = laid_of("v0-c000-8d619e48-0002", split)
    text, _ = printed(token_data(laid, blueprint, drawn=lambda frame: frame != 4))
    assert "[frame 4: 2 x <image>] (0,0) not drawn [frame 5: 2 x <image>] (0,0) silent" in text
    assert "[frame 6: 2 x <image>] (1,0) update" in text and "left out in the first epoch" in text


def test_the_token_view_shows_the_margins_frames_without_a_label(split):
    text, _ = printed(token_data(*laid_of("v0-c000-8d619e48-0002", split, event_margin=1)))
    assert "[frame 4: 2 x <image>] (0,0) silent [frame 5: 2 x <image>] no label [frame 6: 2 x <image>] (1,0)" in text


def test_without_dst_the_token_view_has_no_update_blocks(split):
    text, _ = printed(token_data(*laid_of("v0-c000-8d619e48-0002", split, memory="none")))
    assert "DST:«" not in text and "[frame 6: 2 x <image>] (0,1) speak assistant Assistant:«" in text


def test_a_small_window_shows_the_part_where_the_sample_ends_and_where_it_is_cut(split):
    laid, blueprint = laid_of("v0-c000-8d619e48-0004", split, max_seq_len=90)
    frames = laid.sequence.frames
    assert frames[-1] >= 12 > frames[0] > 2
    text, _ = printed(token_data(laid, blueprint))
    assert f"part {laid.number} of {laid.count}: frames {frames[0]} to {frames[-1]}" in text and laid.number > 1
    assert f"cut before it: part {laid.number - 1} filled the window" in text
    assert ("cut after it" in text) == (laid.number < laid.count)


def test_turn_packing_shows_the_samples_own_sequence(split):
    laid, blueprint = laid_of("v0-c000-8d619e48-0001", split, packing="turn")
    assert laid.sequence.frames == [4, 5, 6]
    text, _ = printed(token_data(laid, blueprint))
    assert "(1,0) update DST DST:« S1->start│<end_of_utterance>»⏎ (0,1) speak" in text
    assert f"sample 2 of {laid.count}, a sequence of its own" in text
