import copy

import pytest
import torch

from pipeline.annotations.clips import Turn
from pipeline.annotations.dst import apply_updates, parse_updates
from pipeline.errors import ProspectError
from prospect.layout import Tokens
from prospect.model.constrain import UpdateConstraint
from prospect.model.steps import alone
from prospect.model.writing import write_text, write_update
from tests.helpers.models import TOKENIZER, load, make_batch

STATE = {"S1": "in_progress", "S2": "not_started", "S12": "not_started"}


def test_cached_steps_decide_as_one_pass(checkpoints) -> None:
    model = load(checkpoints["grid"], tokens_per_frame=4)
    batch = make_batch([90], 4)
    ids, frames = batch["input_ids"], batch["frames"]
    batch["update_labels"].fill_(0)
    batch["speak_labels"].fill_(0)
    with torch.no_grad():
        expected = model(**batch).decision_logits.softmax(-1)[..., 1]  # (T, 2)
    cache, frame, position = model.new_cache(), 0, 0
    while position < ids.shape[1]:
        is_frame = bool(ids[0, position] == 4)
        step = ids[:, position : position + (4 if is_frame else 1)]
        hidden = model.extend(step, frames[frame : frame + 1] if is_frame else None, cache)
        frame, position = frame + is_frame, position + step.shape[1]
        assert model.decide(hidden[0, -1]) == pytest.approx(expected[position - 1].tolist(), abs=1e-4)
    assert cache.get_seq_length() == 90


@pytest.mark.parametrize("seed", range(4))
def test_generated_updates_parse_and_close_their_block(toy, seed) -> None:
    model = copy.deepcopy(toy)
    torch.manual_seed(seed)
    torch.nn.init.normal_(model.get_input_embeddings().weight)  # another model, sure of other things
    tokens, batch = Tokens(TOKENIZER, 1), make_batch([30], seed=seed)
    rules = UpdateConstraint(tokens.encode, tokens.end_of_utterance, list(STATE), STATE)
    cache = model.new_cache()
    model.extend(batch["input_ids"], batch["frames"], cache)
    text, ids, seen = alone(model, write_update(cache, tokens, rules))
    apply_updates(STATE, parse_updates(text))
    one_shot = model.generate_dst_update(batch["input_ids"], batch["frames"], TOKENIZER, list(STATE), STATE)
    assert one_shot == text

    assert ids == tokens.turn(Turn("dst_update", text, 0, 0)).ids  # what training would have seen
    block = torch.tensor([ids])
    one_pass = model.extend(torch.cat([batch["input_ids"], block], 1), batch["frames"], model.new_cache())
    torch.testing.assert_close(seen.hidden, one_pass[0, -1], rtol=1e-4, atol=1e-4)
    assert cache.get_seq_length() == one_pass.shape[1]


def test_generation_follows_the_greedy_choice(toy) -> None:
    """Of S2 and S3, both legal to start, the one whose digit the LM head prefers."""
    tokens = Tokens(TOKENIZER, 1)
    state = {"S2": "not_started", "S3": "not_started"}
    ids = torch.tensor([[9, 10, 11]])
    prefix = torch.tensor([[9, 10, 11, *tokens.header("dst_update"), *tokens.encode(" S")]])
    two, three = tokens.encode("2")[0], tokens.encode("3")[0]
    with torch.no_grad():
        logits = toy(input_ids=prefix).logits[0, -1]
    preferred = "S2" if logits[two] > logits[three] else "S3"
    assert toy.generate_dst_update(ids, None, TOKENIZER, list(state), state).startswith(f"{preferred}->start")


def test_no_update_is_generated_where_none_is_possible(toy) -> None:
    with pytest.raises(ProspectError, match=r"no transition is legal in the state \{'S1': 'completed'\}"):
        toy.generate_dst_update(torch.tensor([[9]]), None, TOKENIZER, ["S1"], {"S1": "completed"})


@pytest.mark.parametrize("favourite", [None, "<image>", "<end_of_utterance>"])
def test_utterances_hold_no_special_token_and_are_always_closed(toy, favourite) -> None:
    model = copy.deepcopy(toy)
    tokens = Tokens(TOKENIZER, 1)
    if favourite:  # the LM head's first choice everywhere
        head = torch.nn.Linear(128, 384)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        head.bias.data[tokens.end_of_utterance] = -1.0
        head.bias.data[TOKENIZER.convert_tokens_to_ids(favourite)] = 9.0
        model.lm_head = head
    cache = model.new_cache()
    model.extend(torch.tensor([[9, 10]]), None, cache)
    text, ids, seen = alone(model, write_text(model, cache, tokens, TOKENIZER, tokens.header("assistant"), 6))
    assert len(ids) == cache.get_seq_length() - 2 and ids[-2:] == [tokens.end_of_utterance, *tokens.newline]
    assert not any(token in text for token in TOKENIZER.all_special_tokens)
    assert seen.hidden.shape == (128,)
    overhead = 2 + len(tokens.header("assistant")) + 1 + len(tokens.newline)
    generated = cache.get_seq_length() - overhead
    assert generated == (1 if favourite == "<end_of_utterance>" else 6)
