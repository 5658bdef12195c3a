"""Practising the hard toy's lookup in words: a clip's layout, words for pictures, one seed one checkpoint."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.annotations.clips import prompt_text
from pipeline.errors import ProspectError
from pipeline.toyworld.practice import EMPTY, OPEN, list_clip, texts, whole_clip
from prospect.layout import Part, Tokens, clip_sequence, cut_parts
from prospect.model.checkpoint import load_tokenizer
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.presets import make_checkpoint
from prospect.train.practice import Lengths, batch, is_practised, practise, sequence


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("practice") / "drawn"
    return make_checkpoint("toy-hard", folder, texts(np.random.default_rng(0)), seed=0)


SHORT = Lengths(lists=28, lists_learned=100.0, clips=12, clips_learned=100.0, pictures=8)


def quiet(what, step, most, loss):
    pass


def test_a_practice_sequence_is_a_clips_layout(drawn):
    tokenizer = load_tokenizer(drawn)
    tokens = Tokens(tokenizer, 1)
    one = list_clip(np.random.default_rng(5))
    laid_out = sequence(tokens, one)
    assert laid_out == clip_sequence(tokens, one.clip, Part(0, one.clip.end_frame, one.clip.initial_state, 0))
    updates = "".join(
        f"{'' if 'complete' in before else '<image>'}DST: {turn.text}<end_of_utterance>\n"
        for before, turn in zip(["", *(turn.text for turn in one.clip.turns)], one.clip.turns, strict=False)
    )
    prompt = f"<|im_start|>System: {prompt_text(one.clip.steps, one.clip.state)}<end_of_utterance>\n"
    assert tokenizer.decode(laid_out.ids) == prompt + updates
    learned = [i for i, kind in zip(laid_out.ids, laid_out.target_kind, strict=True) if kind]
    assert tokenizer.decode(learned) == "".join(f" {turn.text}<end_of_utterance>" for turn in one.clip.turns)


def test_a_whole_clip_is_laid_out_as_one_from_shards_would_be(drawn):
    tokens = Tokens(load_tokenizer(drawn), 1)
    one = whole_clip(np.random.default_rng(2))
    (part,) = cut_parts(tokens, one.clip, 2048, 256)
    assert sequence(tokens, one) == clip_sequence(tokens, one.clip, part)


def test_every_word_of_the_toy_is_one_token(drawn):
    tokens = Tokens(load_tokenizer(drawn), 1)
    words = {word for seed in range(50) for both in list_clip(np.random.default_rng(seed)).words for word in both}
    assert len(words) == 10
    assert all(len(tokens.encode(f" {word}")) == 1 for word in (*words, *EMPTY, *OPEN))


def test_a_frames_feature_is_the_mean_of_its_words(drawn):
    model, tokens = DSTSmolVLM.from_checkpoint(drawn), Tokens(load_tokenizer(drawn), 1)
    rng = np.random.default_rng(1)
    clips = [list_clip(rng) for _ in range(4)]
    inputs = batch(model, tokens, clips)
    assert (inputs["input_ids"] == tokens.image).sum() == sum(len(one.words) for one in clips)
    colour, shape = (tokens.encode(f" {word}")[0] for word in clips[0].words[0])
    table = model.get_input_embeddings().weight
    torch.testing.assert_close(inputs["features"][0, 0], (table[colour] + table[shape]) / 2)
    updates, frames = sum(len(one.clip.turns) for one in clips), sum(len(one.words) for one in clips)
    assert updates == 2 * frames - len(clips)
    assert model(**inputs).counts[:4].tolist() == [0, 5 * updates, updates, frames], "after a start nothing follows"


def test_practice_is_learned_from_and_repeats_to_the_bit(tmp_path):
    losses = {"lists": [], "clips": [], "pictures": []}
    state = torch.random.get_rng_state()
    practise(tmp_path / "one", lengths=SHORT, seed=3, on_step=lambda what, step, most, loss: losses[what].append(loss))
    assert torch.equal(state, torch.random.get_rng_state())
    practise(tmp_path / "two", lengths=SHORT, seed=3, on_step=quiet)
    practise(tmp_path / "other", lengths=SHORT, seed=4, on_step=quiet)
    one, two, other = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two", "other"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert [len(of_kind) for of_kind in losses.values()] == [28, 12, 8]
    assert losses["lists"][27] < losses["lists"][0] - 1
    DSTSmolVLM.from_checkpoint(tmp_path / "one")


def test_a_folder_that_is_there_is_refused_and_a_stop_leaves_nothing(tmp_path):
    with pytest.raises(ProspectError, match="is there already, expected a new folder"):
        practise(tmp_path, on_step=quiet)

    def stop(what, step, most, loss):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        practise(tmp_path / "out", lengths=SHORT, on_step=stop)
    assert list(tmp_path.iterdir()) == []


def test_what_was_practised_is_known_and_another_seeds_is_not_taken_for_it(tmp_path):
    out = tmp_path / "out"
    assert not is_practised(out, lengths=SHORT)
    practise(out, lengths=SHORT, on_step=quiet)
    assert is_practised(out, lengths=SHORT)
    with pytest.raises(
        ProspectError, match=r"practised otherwise \(seed: 0 there, 2 now\); remove it, or pass another"
    ):
        is_practised(out, lengths=SHORT, seed=2)
    with pytest.raises(ProspectError, match="clips: 12 there, 13 now"):
        is_practised(out, lengths=replace(SHORT, clips=13))
    for text in ('{"seed": 0}', "{", '{"seed": true, "lengths": {}, "format": "prospect.practice/1"}'):
        (out / "practice.json").write_text(text)
        with pytest.raises(
            ProspectError, match="is no checkpoint of today's practice: remove it, or pass another --out"
        ):
            is_practised(out, lengths=SHORT)
    (out / "practice.json").unlink()
    with pytest.raises(ProspectError, match=r"practice.json: cannot be read .* is no checkpoint of today's practice"):
        is_practised(out, lengths=SHORT)


@pytest.mark.parametrize("what", ["lists", "clips"])
def test_lists_and_clips_are_practised_until_they_are_learned_and_no_longer(tmp_path, what):
    """A fixed number of steps left one seed of three without the lookup."""
    made = []

    def on_step(of_what, step, most, loss):
        if of_what == what:
            made.append(loss)

    practise(tmp_path / "out", lengths=replace(SHORT, **{what: 200, f"{what}_learned": 2.0}), on_step=on_step)
    assert 50 <= len(made) < 200 and sum(made[-50:]) / 50 < 2.0
    match = rf"after 10 steps on {what} the loss is \d.*, expected below 0.01: the"
    with pytest.raises(ProspectError, match=match):
        practise(tmp_path / "none", lengths=replace(SHORT, **{what: 10, f"{what}_learned": 0.01}), on_step=quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
