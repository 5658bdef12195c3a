"""`turn` packing: every decision and target of a clip in exactly one of its samples."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.shards.expand import expand
from prospect.layout import IGNORE
from prospect.turn_layout import turn_sequence
from tests.helpers.clips import clips
from tests.helpers.fakes import pieces
from tests.helpers.layouts import CLIP, decisions, setup, whole


@settings(max_examples=150, deadline=None)
@given(clips(), st.integers(1, 6), st.integers(1, 8), st.integers(0, 3))
def test_turn_packing_learns_each_decision_and_target_of_the_clip_once(clip, longest_silence, longest_event, margin):
    tokenizer, tokens = setup(clip)
    samples = expand(clip, longest_silence, longest_event)
    found, targets = [], []
    for number, sample in enumerate(samples):
        coming = next((after for after in samples[number + 1 :] if after.target), None)
        same_frame = coming and sample.target and coming.end_frame == sample.end_frame
        next_event = coming.end_frame if coming else None
        following = coming.kind if coming and same_frame else None
        sequence = turn_sequence(tokens, sample, following, lambda frame: True, next_event, margin)
        found += decisions(sequence, tokenizer)
        targets += [i for i, k in zip(sequence.ids, sequence.target_kind, strict=True) if k]
        assert set(sequence.frames) <= set(sample.frames)
    one = whole(tokens, clip, margin)
    assert sorted(found) == sorted(decisions(one, tokenizer))
    assert targets == [i for i, k in zip(one.ids, one.target_kind, strict=True) if k]


def test_turn_packing_leaves_unsampled_frames_out():
    tokenizer, tokens = setup(CLIP)
    silent = expand(CLIP, 32, 8)[0]
    assert (silent.start_frame, silent.end_frame) == (0, 0)
    last = expand(CLIP, 32, 8)[-1]
    kept = turn_sequence(tokens, last, None, keep=lambda frame: False)
    assert kept.frames == [] and not any(label != IGNORE for label in kept.update_labels)
    text = "".join(pieces(tokenizer, kept.ids))
    assert text.endswith("DST: S1->complete, S2->start<end_of_utterance>\n"), "earlier turns stay as text"


def test_turn_packing_puts_same_frame_turns_at_their_places():
    tokenizer, tokens = setup(CLIP)
    sample = next(s for s in expand(CLIP, 32, 8) if s.kind == "assistant")
    text = "".join(pieces(tokenizer, turn_sequence(tokens, sample, None).ids))
    assert text.endswith(
        "System: be kind<end_of_utterance>\n<image>User: hi <image><end_of_utterance>\n<image>"
        "DST: S1->start<end_of_utterance>\nAssistant: go on<end_of_utterance>\n"
    )
