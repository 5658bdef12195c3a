"""A frame as a forward of fixed shapes gives what one through a growing cache gives; on a GPU it is a captured graph."""

import copy
import os
import time

import pytest
import torch

from pipeline.annotations.clips import Turn
from pipeline.errors import ProspectError
from prospect.evaluation.replay import encoded, stream_clip
from prospect.model import fixed
from prospect.model.assemble import assemble
from prospect.model.fixed import FixedCache
from prospect.model.side_by_side import Slots
from prospect.model.steps import Append
from prospect.model.text import slides
from prospect.model.vision import SmolVLMWithFrames
from prospect.stream.load import load_streamer
from tests.helpers.fakes import make_clip
from tests.helpers.models import load, random_frames
from tests.helpers.parts import save_text, save_tower
from tests.helpers.streams import NARROW, TURNS, assert_same, streamer
from tests.helpers.waits import HostWaits

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))
CLIP = make_clip(TURNS, frames=(0, 39))
OTHER = make_clip([Turn("user", "Where are we, and what shall I do now?", 7, 7)], frames=(5, 30), clip_id="other")


@pytest.fixture(scope="module", autouse=True)
def small_buckets():
    """So that a clip crosses the borders of several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixed, "BUCKET", 64)
        yield


@pytest.fixture(scope="module", params=["heads", "tokens", "qwen2-slides"])
def lively(request, tmp_path_factory):
    """Decides either way; or another family, some of whose layers see a window. Weights that fire at some frames."""
    if request.param == "tokens":
        return request.getfixturevalue("by_tokens")
    if request.param == "heads":
        model = copy.deepcopy(request.getfixturevalue("model"))
    else:
        folder = tmp_path_factory.mktemp("slides")
        text, tower = save_text(folder / "text", request.param), save_tower(folder / "tower")
        assemble(str(text), str(tower), None, folder / "whole", seed=0)
        model = load(folder / "whole", tokens_per_frame=4)
    torch.manual_seed(4)
    for head in model.heads:
        torch.nn.init.normal_(head.weight, std=0.4)
        torch.nn.init.zeros_(head.bias)
    return model


def fixed_stream(stream) -> tuple[FixedCache, object]:
    cache = FixedCache(stream.model, stream.settings.max_seq_len, stream.tokens.frame.ids)
    return cache, stream.beside(cache.emptied, time.perf_counter)


def records(stream, clip, row="model"):
    frames = random_frames(clip.end_frame - clip.start_frame + 1, seed=len(clip.id))
    return tuple(stream_clip(stream, clip, encoded(stream, frames, row, 8), row))


@pytest.mark.parametrize(
    ("row", "settings"),
    [
        ("model", {}),
        ("forced", {"context": "drop_all"}),
        ("model", {"context": "drop_middle", "no_repeat": 2}),
        ("model", {"context": "slide"}),
        ("text_only", {}),
    ],
)
def test_a_stream_of_fixed_steps_has_the_records_of_one_that_grows(lively, tokens, row, settings):
    if settings.get("context") == "slide" and slides(lively.model.text_model.config):
        pytest.skip("its keys cannot be moved")
    grows = streamer(lively, tokens, **NARROW | settings)
    cache, steps = fixed_stream(grows)
    expected = {clip.id: records(grows, clip, row) for clip in (CLIP, OTHER)}
    assert_same({clip.id: records(steps, clip, row) for clip in (CLIP, OTHER)}, expected)
    assert cache.get_seq_length() == expected[OTHER.id][-1].context_tokens


def test_the_streams_above_cross_buckets_act_and_restart(lively, tokens):
    """Else the parity would prove little."""
    cache, stream = fixed_stream(streamer(lively, tokens, **NARROW))
    found = records(stream, CLIP)
    assert len({length for is_frame, length in cache._steps if is_frame}) > 1
    assert any(record.is_restart for record in found) and any(record.actions for record in found)
    assert any(not is_frame for is_frame, _ in cache._steps), "single tokens go the same way"


def test_a_silent_frame_is_one_fixed_step_and_a_stream_that_follows_makes_none(model, tokens, monkeypatch):
    cache, stream = fixed_stream(streamer(model, tokens, **NARROW, update_threshold=1.0, speak_threshold=1.0))
    records(stream, OTHER)
    made = dict(cache._steps)
    eager = []
    append = Slots.append
    monkeypatch.setattr(
        Slots, "append", lambda slots, wishes: eager.append(len(wishes[0].ids)) or append(slots, wishes)
    )
    found = records(stream, OTHER)
    assert cache._steps == made, "the same steps, on the same buffers"
    blocks = 1 + sum(record.is_restart for record in found)
    assert len(eager) == blocks + 1  # prompts (one goes with the frame after a restart), and the frame with a line
    assert len(found) == 26 and not any(record.actions for record in found)


def test_a_fixed_frame_waits_for_the_gpu_once(model, tokens, monkeypatch):
    """For both probabilities."""
    monkeypatch.setattr(SmolVLMWithFrames, "_check", lambda *args: None)  # asserted on a GPU in its own time
    cache = FixedCache(model, 300, tokens.frame.ids)
    with torch.no_grad():
        one, other = model.encode_frames(random_frames(2))  # (K, D) each
    cache.append(Append(cache, tokens.frame.ids, one))
    copied, tolist = [], torch.Tensor.tolist
    with HostWaits() as waits:
        seen = cache.append(Append(cache, tokens.frame.ids, other))
        monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: copied.append(tensor.shape) or tolist(tensor))
        assert seen.decide() == seen.decide()
    assert waits.found == [] and copied == [(1, 2)]


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_blocks_tokens_and_frames_in_any_order_have_the_states_of_a_growing_cache(model, tokens, device):
    """On a GPU what is captured, replayed for other frames at other places, against kernel by kernel; beyond the
    window too, where the buffers grow."""
    model = copy.deepcopy(model).to(device)
    cache, grown = FixedCache(model, 100, tokens.frame.ids), model.new_cache()
    draw, features = torch.Generator().manual_seed(0), model.encode_frames(random_frames(60).to(device)).detach()
    kept = []
    for turn in range(60):
        length = (0, 0, 1, 0, 9, 0)[turn % 6]
        if length:
            wish = Append(cache, torch.randint(7, 263, (length,), generator=draw).tolist())
        else:
            wish = Append(cache, tokens.frame.ids, features[turn])
        seen = cache.append(wish)
        hidden = model.extend_embeds(model.embed_block(wish.ids, wish.features), grown)[0, -1]
        kept.append((seen, hidden))
        assert seen.decide() == pytest.approx(model.decide(hidden), abs=1e-5)
        assert cache.get_seq_length() == grown.get_seq_length()
        if turn % 7 == 3:
            for one in (cache, grown):
                one.crop(-2)
    assert cache.get_seq_length() > 128
    for seen, hidden in kept:  # what was said stays what it was, whatever ran since
        torch.testing.assert_close(seen.hidden, hidden, rtol=1e-5, atol=1e-5)
    if device == "cuda":
        assert all(step._graph is not None for step in cache._steps.values())


def test_where_no_graph_can_be_captured_frames_run_on_and_the_next_stream_has_a_growing_cache(
    model, tokens, monkeypatch
):
    def refuses(self, wish, longest):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore of it")

    grows = streamer(model, tokens, **NARROW)
    expected = {"clip": records(grows, OTHER)}
    cache, stream = fixed_stream(grows)
    monkeypatch.setattr(FixedCache, "_made", refuses)
    with pytest.warns(
        UserWarning, match=r"^CUDA graphs: .*\(CUDA out of memory\. Tried .* GiB\.\); .*Without PROSPECT_GRAPHS none"
    ) as told:
        assert_same({"clip": records(stream, OTHER)}, expected)
    assert len(told) == 1 and not cache._steps
    assert type(cache.emptied()) is type(model.new_cache())


@pytest.mark.parametrize(("wish", "has"), [(None, False), ("0", False), ("1", True)])
def test_the_environment_says_whether_frames_are_fixed_steps(checkpoint, monkeypatch, wish, has):
    if wish is not None:
        monkeypatch.setenv("PROSPECT_GRAPHS", wish)
    elif "PROSPECT_GRAPHS" in os.environ:
        monkeypatch.delenv("PROSPECT_GRAPHS")
    assert isinstance(load_streamer(str(checkpoint))._new_cache(), FixedCache) == has


def test_what_cannot_be_a_fixed_step_is_one_line(checkpoint, model, monkeypatch):
    monkeypatch.setenv("PROSPECT_GRAPHS", "yes")
    with pytest.raises(
        ProspectError, match=r"^PROSPECT_GRAPHS: found 'yes', expected 1 \(frames as CUDA graphs\) or 0"
    ):
        load_streamer(str(checkpoint))
    other = copy.deepcopy(model)
    other.model.text_model.config._attn_implementation = "eager"
    with pytest.raises(ProspectError, match=r"found attention 'eager', expected 'sdpa'"):
        FixedCache(other, 300, [4])
    other = copy.deepcopy(model)
    other.model.text_model.config.rope_parameters = {"rope_type": "dynamic"}
    with pytest.raises(ProspectError, match=r"found positions of 'dynamic', which depend on how long"):
        FixedCache(other, 300, [4])
