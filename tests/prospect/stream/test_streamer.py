from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from pipeline.annotations.clips import Step, Turn, prompt_text
from pipeline.annotations.dst import apply_updates, parse_updates
from pipeline.errors import ProspectError
from prospect.evaluation.replay import encoded, stream_clip
from prospect.layout import cut_parts
from prospect.model.writing import write_text
from prospect.stream.context import POLICIES
from prospect.stream.streamer import Streamer, StreamSettings
from tests.helpers.fakes import make_clip
from tests.helpers.models import TOKENIZER, random_frames
from tests.helpers.streams import TURNS, one_pass, streamer, with_bias


def run(model, tokens, clip, row="model", **settings):
    stream = streamer(model, tokens, **settings)
    frames = random_frames(clip.end_frame - clip.start_frame + 1)
    return list(stream_clip(stream, clip, encoded(stream, frames, row, 8), row))


@pytest.mark.parametrize("decide", ["model", "by_tokens"])
@pytest.mark.parametrize(("max_seq_len", "reserve", "num_parts"), [(4096, 256, 1), (340, 100, 2), (260, 60, 3)])
def test_forced_streaming_decides_as_the_one_pass_training_parts(
    request, decide, tokens, clip, max_seq_len, reserve, num_parts
):
    model = request.getfixturevalue(decide)
    parts, expected = one_pass(model, tokens, clip, max_seq_len, reserve)
    assert len(parts) == num_parts, "the case is about this many part boundaries"
    records = run(model, tokens, clip, "forced", max_seq_len=max_seq_len, reserve=reserve)
    found = []
    for record in records:
        decisions = [(action.p_update, action.p_speak) for action in record.actions]
        found += [*decisions, (record.p_update_last, record.p_speak_last)]
        assert (record.p_update, record.p_speak) == (decisions or [(record.p_update_last, record.p_speak_last)])[0]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    assert [r.frame for r in records if r.is_restart] == [part.first_frame for part in parts[1:]]
    ends = [part.last_frame - clip.start_frame for part in parts]
    assert [records[end].context_tokens for end in ends] == [part.num_tokens for part in parts]


@pytest.mark.parametrize("decide", ["model", "by_tokens"])
def test_decisions_differ_from_frame_to_frame(request, decide, tokens, clip):
    """Else the parity above would prove little."""
    records = run(request.getfixturevalue(decide), tokens, clip, "forced")
    assert len({round(record.p_update, 3) for record in records}) > 5


def test_the_update_goes_first_and_max_actions_ends_a_frame(model, tokens, clip):
    """Both heads always fire: updates until every step is completed, then speech, three blocks a frame."""
    records = run(with_bias(model, 9, 9), tokens, clip, max_actions=3, max_new_tokens=4)
    state = clip.state
    for record in records:
        assert len(record.actions) == 3
        for action in record.actions:
            is_done = set(state.values()) == {"completed"}
            assert action.role == ("assistant" if is_done else "dst_update")
            if not is_done:
                state = apply_updates(state, parse_updates(action.text))
    assert {action.role for record in records for action in record.actions} == {"dst_update", "assistant"}


def test_only_speech_where_no_update_is_legal(model, tokens):
    done = make_clip((), frames=(0, 2), initial=("completed", "completed"))
    records = run(with_bias(model, 9, 9), tokens, done, max_actions=1, max_new_tokens=3)
    assert [[a.role for a in record.actions] for record in records] == [["assistant"]] * 3


def test_thresholds_decide_whether_a_head_fires(model, tokens, clip):
    half = with_bias(model, 0, 0)  # both probabilities are 0.5
    silent = run(half, tokens, clip, update_threshold=0.51, speak_threshold=0.51)
    assert not any(record.actions for record in silent)
    speaks = run(half, tokens, clip, update_threshold=0.51, speak_threshold=0.5, max_actions=1, max_new_tokens=2)
    assert all([a.role for a in record.actions] == ["assistant"] for record in speaks)


def test_a_transition_that_was_not_learned_is_never_written(model, tokens, clip):
    for legal in (True, False):
        stream = Streamer(
            with_bias(model, 9, -9), TOKENIZER, tokens, StreamSettings(legal=legal, max_actions=2), ["start"]
        )
        records = list(stream_clip(stream, clip, encoded(stream, random_frames(20), "model", 8)))
        written = {u.transition for r in records for a in r.actions for u in parse_updates(a.text)}
        assert written == {"start"}


@pytest.mark.parametrize("legal", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_every_generated_update_parses_and_legal_ones_replay(model, tokens, clip, legal, seed):
    other = with_bias(model, 9, -9)
    torch.manual_seed(seed)
    torch.nn.init.normal_(other.get_input_embeddings().weight)
    records = run(other, tokens, clip, legal=legal, max_actions=2)
    state, count = clip.state, 0
    for record in records:
        for action in record.actions:
            for update in parse_updates(action.text):
                count += 1
                assert update.step in state
                if legal:
                    before = {"start": "not_started", "complete": "in_progress"}[update.transition]
                    assert state[update.step] == before
                    state[update.step] = {"start": "in_progress", "complete": "completed"}[update.transition]
    assert count == 4 if legal else count > 4


@pytest.mark.slow
@pytest.mark.parametrize("context", POLICIES)
def test_the_context_never_outgrows_the_window(model, tokens, context):
    """Heads that always fire, user lines now and then, 120 frames in a window of 230 tokens."""
    turns = [Turn("user", "Are we there yet?", f, f) for f in range(0, 120, 7)]
    long = make_clip(turns, frames=(0, 119))
    talkative = with_bias(model, -9, 9)
    records = run(
        talkative, tokens, long, context=context, max_seq_len=230, reserve=60, max_new_tokens=10, max_actions=9
    )
    assert max(record.context_tokens for record in records) <= 230
    assert sum(record.is_restart for record in records) > 3
    assert all(record.actions for record in records)


def test_state_carry_restarts_with_the_predicted_state(model, tokens, clip, monkeypatch):
    prompts = []
    encode = type(tokens).prompt
    monkeypatch.setattr(type(tokens), "prompt", lambda self, text: prompts.append(text) or encode(self, text))
    run(model, tokens, clip, "forced", max_seq_len=340, reserve=100)
    state = {"S1": "completed", "S2": "in_progress"}
    assert prompts == [prompt_text(clip.steps, clip.state), prompt_text(clip.steps, state)]
    prompts.clear()
    run(model, tokens, clip, "forced", max_seq_len=340, reserve=100, context="drop_all")
    assert prompts == [prompt_text(clip.steps, clip.state)] * 2


def test_drop_middle_keeps_the_beginning_and_the_last_whole_frames(model, tokens, clip):
    """After the cut the heads say what a fresh model says of the sequence that is left."""
    settings = {"max_seq_len": 340, "reserve": 100, "context": "drop_middle"}
    records = run(model, tokens, clip, "forced", **settings)
    cut = next(i for i, record in enumerate(records) if record.is_restart)
    frames = random_frames(20)
    head = [
        *tokens.prompt(prompt_text(clip.steps, clip.state)).ids,
        *tokens.turn(TURNS[0]).ids,
        *tokens.turn(TURNS[1]).ids,
    ]

    def group(f):
        here = [turn for turn in TURNS[2:] if turn.end_frame == f]
        lines = [i for turn in here if turn.role == "user" for i in tokens.turn(turn).ids]
        blocks = [i for turn in here if turn.role != "user" for i in tokens.turn(turn).ids]
        return [*lines, *tokens.frame.ids, *blocks]

    first, kept = cut, []
    half = (340 - 100 - 4 - len(head)) // 2
    while len(group(first - 1)) + sum(map(len, kept)) <= half:
        first -= 1
        kept.insert(0, group(first))
    assert 0 < first < cut
    ids = [*head, *(i for g in kept for i in g), *tokens.frame.ids]
    cache = model.new_cache()
    hidden = model.extend(torch.tensor([ids]), frames[first : cut + 1], cache)
    assert (records[cut].p_update, records[cut].p_speak) == pytest.approx(model.decide(hidden[0, -1]), abs=1e-4)


def test_oracle_state_writes_the_references_updates_and_no_others(model, tokens, clip):
    records = run(with_bias(model, 9, -9), tokens, clip, "oracle_state")
    written = [(r.frame, a.text) for r in records for a in r.actions]
    assert written == [(4, "S1->start"), (9, "S1->complete"), (9, "S2->start"), (17, "S2->complete")]


def test_without_frames_the_heads_are_read_at_the_text(model, tokens, clip):
    records = run(with_bias(model, -9, -9), tokens, clip, "text_only")
    no_text = [r for r in records if r.frame not in (1, 12)]
    assert {record.computed_tokens for record in no_text[1:]} == {0}


@pytest.mark.parametrize("forced", [[], [Turn("assistant", "word", 3, 3)]])
def test_lines_over_the_reserve_are_named_and_change_nothing(model, tokens, forced):
    """A caller may give the frame again, with fewer lines: what follows is as if nothing had been."""
    long, short = Turn("user", "word " * 50, 3, 3), Turn("user", "Hello", 3, 3)
    taken = sum(len(tokens.turn(turn).ids) for turn in (long, *forced))
    what = "its user and system lines" + (" and the blocks to write" if forced else "")
    features = random_frames(3)

    def stepped(with_error):
        stream = streamer(with_bias(model, -9, -9), tokens, reserve=40)
        stream.start((), {}, fps=2)
        encodings = stream.model.encode_frames(features)
        records = [stream.step(0, encodings[0])]
        if with_error:
            with pytest.raises(
                ProspectError, match=rf"^frame 1: {what} take {taken} tokens, more than the reserve of 40; give some of"
            ):
                stream.step(1, encodings[1], [long], forced)
        records += [stream.step(1, encodings[1], [short], forced), stream.step(2, encodings[2])]
        return [replace(record, seconds=0) for record in records]

    with torch.no_grad():
        assert stepped(True) == stepped(False)


def test_a_clip_whose_lines_exceed_the_reserve_is_named(model, tokens):
    long = make_clip([Turn("user", "word " * 50, 3, 3)], frames=(0, 5))
    with pytest.raises(ProspectError, match=r"^clip 'v-c000' frame 3: its user and system lines take \d+ tokens, more"):
        run(model, tokens, long, reserve=40)


def test_a_first_line_that_leaves_no_room_is_not_kept_at_a_restart(model, tokens):
    """drop_middle begins anew with the first user line: one of the whole reserve would fill the window by itself."""
    reserve = len(tokens.turn(Turn("user", "word " * 50, 0, 0)).ids)
    talk = [Turn("user", "word " * 50, 1, 1), Turn("user", "Hello", 5, 5)]
    clip = make_clip(talk, frames=(0, 9))
    prompt = len(tokens.prompt(prompt_text(clip.steps, clip.state)).ids)
    settings = {"reserve": reserve, "max_seq_len": prompt + reserve + 3 * 4, "context": "drop_middle"}
    records = run(with_bias(model, -9, -9), tokens, clip, **settings)
    restarts = [record.frame for record in records if record.is_restart]
    assert len(records) == 10 and restarts[0] == 2
    assert records[2].context_tokens == prompt + 2 * 4, "frame 1 is kept, its line is not"
    assert all(record.context_tokens <= settings["max_seq_len"] for record in records)


def test_an_utterance_waits_for_the_gap(model, tokens):
    """A head that always fires, two frames a second: every 1.5 s, one at a frame."""
    clip = make_clip((), frames=(0, 7))
    records = run(with_bias(model, -9, 9), tokens, clip, least_gap_s=1.5, max_new_tokens=2)
    assert [len(record.actions) for record in records] == [1, 0, 0, 1, 0, 0, 1, 0]


def test_what_was_said_is_not_said_again_and_leaves_nothing_in_the_context(model, tokens):
    """The model says the same at every frame; the words that it took back went through it, and are gone."""
    parrot = with_bias(model, -9, 9)
    torch.nn.init.zeros_(parrot.lm_head.weight)  # every token is equally likely: the first, four times
    clip = make_clip((), frames=(0, 3))
    talk = run(parrot, tokens, clip, max_actions=1, max_new_tokens=4)
    texts = {action.text for record in talk for action in record.actions}
    assert len(texts) == 1 and [len(record.actions) for record in talk] == [1, 1, 1, 1]
    once = run(parrot, tokens, clip, max_actions=1, max_new_tokens=4, no_repeat=3)
    assert [len(record.actions) for record in once] == [1, 0, 0, 0] and growth(once) == [4, 4, 4]
    block = talk[1].computed_tokens - 4
    assert [record.computed_tokens for record in once[1:]] == [4 + block] * 3
    silent = run(with_bias(model, -9, -9), tokens, clip)
    assert silent[0].p_update == once[0].p_update


def test_after_what_was_taken_back_the_stream_decides_as_if_it_was_never_begun(model, tokens, monkeypatch):
    """The utterance of frame 0 is forced; with the guard the head's are taken back, without a threshold it has none."""
    said = Turn("assistant", "Go on.", 0, 0)

    def go_on(*given):
        return (yield from write_text(*given))._replace(text="Go on.")

    def decided(**settings):
        stream = streamer(model, tokens, max_new_tokens=4, max_actions=1, **settings)
        stream.start((), {}, fps=2)
        with torch.no_grad():
            encodings = stream.model.encode_frames(random_frames(4))
        records = [stream.step(0, encodings[0], forced=[said], free=())]
        records += [stream.step(i, encodings[i]) for i in (1, 2, 3)]
        assert [len(record.actions) for record in records] == [1, 0, 0, 0]
        return [(record.p_update, record.p_speak) for record in records]

    monkeypatch.setattr("prospect.stream.streamer.write_text", go_on)
    held_back, silent = decided(no_repeat=1, speak_threshold=0.0), decided(speak_threshold=1.0)
    for one, other in zip(held_back, silent, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_a_window_without_room_for_the_prompt_is_named(model, tokens, clip):
    """At the first frame, with what stands before it as training has it, and after a restart."""
    prompt, before = len(tokens.prompt(prompt_text(clip.steps, clip.state)).ids), len(tokens.turn(TURNS[0]).ids)
    room = prompt + before + 4 + 40
    with pytest.raises(ProspectError, match=f"the prompt and turns before frame 0 take {prompt + before} tokens"):
        cut_parts(tokens, clip, room - 1, 40)
    with pytest.raises(
        ProspectError,
        match=f"^clip 'v-c000' frame 0: the prompt and turns before it take {prompt + before} tokens, a frame 4, the reserve 40: "
        f"more than max_seq_len {room - 1}; raise it$",
    ):
        run(model, tokens, clip, reserve=40, max_seq_len=room - 1)
    first, *_ = streamed = run(model, tokens, make_clip(TURNS[:1], frames=(0, 1)), reserve=40, max_seq_len=room)
    assert [record.is_restart for record in streamed] == [False, True] and first.context_tokens <= room

    progress = len(tokens.prompt(prompt_text(clip.steps, {"S1": "in_progress", "S2": "not_started"})).ids)
    started = make_clip([Turn("dst_update", "S1->start", 0, 0)], frames=(0, 1))
    with pytest.raises(ProspectError, match=f"^clip 'v-c000' frame 1: the prompt alone takes {progress} tokens"):
        run(model, tokens, started, "forced", reserve=40, max_seq_len=prompt + 44)


def growth(records):
    """Tokens that each frame but the first put into the context."""
    return [after.context_tokens - before.context_tokens for before, after in pairwise(records)]


def test_forced_and_generated_blocks_share_the_reserve(model, tokens):
    """The head speaks at every frame, as long as there is room; at frame 2 a forced update has taken of it."""
    forced = Turn("dst_update", "S1->start, S2->start", 2, 2)
    length = len(tokens.turn(forced).ids)
    reserve = length + 20
    clip = make_clip([forced], frames=(0, 3))
    talkative = with_bias(model, -9, 9)
    talkative.lm_head.weight.data[tokens.end_of_utterance] = 0  # which is never the likeliest
    records = run(talkative, tokens, clip, "oracle_state", reserve=reserve, max_actions=9)
    assert [[action.role for action in record.actions] for record in records] == [
        ["assistant"], ["assistant"], ["dst_update", "assistant"], ["assistant"],
    ]  # fmt: skip
    assert growth(records) == [4 + reserve] * 3


def test_an_update_that_just_fits_the_reserve_is_written(model, tokens):
    clip = make_clip((), frames=(0, 1), steps=1)
    length = len(tokens.turn(Turn("dst_update", "S1->start", 0, 0)).ids)
    updating = with_bias(model, 9, -9)
    first, *_ = run(updating, tokens, clip, reserve=length, max_actions=1)
    assert [action.text for action in first.actions] == ["S1->start"]
    assert not any(record.actions for record in run(updating, tokens, clip, reserve=length - 1))


def test_a_model_without_dst_begins_without_progress_and_only_speaks(model, tokens, monkeypatch):
    prompts = []
    encode = type(tokens).prompt
    monkeypatch.setattr(type(tokens), "prompt", lambda self, text: prompts.append(text) or encode(self, text))
    begun = make_clip((), frames=(0, 1), initial=("completed", "in_progress"))
    untouched = {"S1": "not_started", "S2": "not_started"}
    stream = streamer(with_bias(model, 9, 9), tokens, memory="none", max_actions=1, max_new_tokens=2)
    records = list(stream_clip(stream, begun, encoded(stream, random_frames(2), "model", 8)))
    assert prompts == [prompt_text(begun.steps, untouched)] and stream.state == untouched
    assert [[action.role for action in record.actions] for record in records] == [["assistant"]] * 2


def test_the_context_is_full_when_a_frame_and_the_reserve_no_longer_fit(model, tokens):
    """After frame 1 just these fit, after frame 2 they do not."""
    clip = make_clip((), frames=(0, 3))
    prompt = len(tokens.prompt(prompt_text(clip.steps, clip.state)).ids)
    records = run(with_bias(model, -9, -9), tokens, clip, reserve=40, max_seq_len=prompt + 3 * 4 + 40)
    assert [record.is_restart for record in records] == [False, False, False, True]
    assert [record.context_tokens for record in records] == [prompt + 4, prompt + 8, prompt + 12, prompt + 4]


@pytest.mark.parametrize("context", ["state_carry", "drop_all", "drop_middle"])
def test_every_token_that_goes_through_the_model_is_counted_once(model, tokens, clip, context):
    """Lines, frames, updates and utterances; after a restart all of the context."""
    records = run(with_bias(model, 9, 9), tokens, clip, context=context, max_seq_len=340, reserve=100, max_new_tokens=5)
    assert {action.role for record in records for action in record.actions} == {"dst_update", "assistant"}
    assert records[0].computed_tokens == records[0].context_tokens
    for record, added in zip(records[1:], growth(records), strict=True):
        assert record.computed_tokens == (record.context_tokens if record.is_restart else added)
    assert any(record.is_restart for record in records)


def test_a_task_longer_than_the_window_is_refused_before_the_model_runs(model, tokens, monkeypatch):
    """attack.md 6: 20,000 steps took the model 40 s and 5.5 GB before the window was looked at."""
    stream = streamer(model, tokens, max_seq_len=100)

    def ran(*arguments):
        raise AssertionError("the model ran")

    monkeypatch.setattr(type(model), "embed_block", ran)
    steps = [Step(f"S{n}", "put it down") for n in range(1, 40)]
    with pytest.raises(ProspectError, match=r"^the task: its steps and .* take \d+ tokens, more than max_seq_len 100;"):
        stream.start(steps, dict.fromkeys((step.id for step in steps), "not_started"), fps=2)
