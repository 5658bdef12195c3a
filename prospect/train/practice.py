"""`prospect practise`: a small model with a past, as published ones have, to start the hard toy from (docs/results.md).

1. A checkpoint of the preset `toy-hard` is drawn, its tokenizer trained from the toy world's texts.
2. Words: a frame's feature is the mean of its words' embeddings (`pipeline/toyworld/practice.py`). First lists of
   steps, and which of them is started, until that is learned; then whole clips with lists beside them, likewise: their
   new words undid the lookup otherwise.
3. Pictures: tower and connector learn to give a frame the feature that its words had.

No clip of the data set is used, and none of the combinations of steps that are held out.
"""

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import ProspectError
from pipeline.io.records import RECORD, differences, read_record
from pipeline.io.storage import write_json
from pipeline.toyworld.practice import CAPTIONS, PracticeClip, captioned, list_clip, texts, whole_clip
from prospect.data.decode import decode_frame
from prospect.layout import Part, Tokens, TokenSequence, clip_sequence
from prospect.losses import total_loss
from prospect.model.checkpoint import load_tokenizer, writing
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.presets import make_checkpoint

LISTS, CLIPS, PICTURES = 16, 8, 48  # of a step
RECENT = 50  # steps that a loss is averaged over
POOL = 192  # pictures that each is drawn from, as one clip's follow each other
WARMUP, BETAS, TEMPERATURE = 40, (0.9, 0.95), 0.1
ABOUT = "practice.json"  # of a checkpoint folder
Told = Callable[[str, int, int, float], None]


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long is practised, in steps."""

    __pydantic_config__ = RECORD
    lists: int = 1000  # at most; some 200 are needed
    lists_learned: float = 0.02  # loss of a token; ids of starts, one of nine, are then found 17 times of 20
    clips: int = 1000  # at most; some 200 are needed
    clips_learned: float = 0.015  # it is .13 where the lookup was lost
    pictures: int = 300


DEFAULT = Lengths()


@dataclass(frozen=True, slots=True)
class _About:
    """What a checkpoint's weights came from."""

    __pydantic_config__ = RECORD
    seed: int
    lengths: Lengths
    format: Literal["prospect.practice/1"] = "prospect.practice/1"  # another number where the same lengths give others


def is_practised(out: Path, *, lengths: Lengths = DEFAULT, seed: int = 0) -> bool:
    """Tell whether `out` holds what `practise` would write with the same arguments.

    Raises:
        ProspectError: it holds something else.
    """
    if not out.exists():
        return False
    fix = "remove it, or pass another --out"
    there = read_record(out / ABOUT, _About, f"{out} is no checkpoint of today's practice: {fix}")
    if other := differences(_flat(there), _flat(_About(seed, lengths))):
        raise ProspectError(f"{out}: holds a checkpoint practised otherwise ({'; '.join(other)}); {fix}")
    return True


def _flat(about: _About) -> dict[str, float]:
    return {"seed": about.seed, **asdict(about.lengths)}


def practise(out: Path, *, lengths: Lengths = DEFAULT, seed: int = 0, on_step: Told) -> Path:
    """Write the checkpoint folder `out`, whole or not at all; the same arguments give the same bytes on one machine.

    Args:
        on_step: is told what is practised, the steps made of it and how many there are at most, and its loss.

    Raises:
        ProspectError: `out` is there already, or cannot be written; or lists or clips were not learned.
    """
    if out.exists():
        raise ProspectError(f"{out}: is there already, expected a new folder; remove it, or pass another --out")
    drawn = out.with_name(f".{out.name}.drawn")
    shutil.rmtree(drawn, ignore_errors=True)
    rng = np.random.default_rng((seed, 20261127))
    make_checkpoint("toy-hard", drawn, texts(rng), seed)
    with writing(drawn, out), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, tokens = DSTSmolVLM.from_checkpoint(drawn), Tokens(load_tokenizer(drawn), 1)
        for what, step, most, loss in _all(model, tokens, rng, lengths):
            on_step(what, step, most, loss)
        model.save_pretrained(drawn)
        write_json(drawn / ABOUT, asdict(_About(seed, lengths)))
        drawn.rename(out)
    return out


def _all(
    model: DSTSmolVLM, tokens: Tokens, rng: np.random.Generator, lengths: Lengths
) -> Iterator[tuple[str, int, int, float]]:
    """Practise lists, clips and pictures; give what each step was, its number and the most there are, and its loss."""
    with _learning(list(model.parameters()), 1.5e-3) as update:
        for what, most, learned, drawn in (
            ("lists", lengths.lists, lengths.lists_learned, [(LISTS, list_clip)]),
            ("clips", lengths.clips, lengths.clips_learned, [(CLIPS, whole_clip), (LISTS, list_clip)]),
        ):
            recent: deque[float] = deque(maxlen=RECENT)
            for step in range(1, most + 1):
                batches = [[draw(rng) for _ in range(count)] for count, draw in drawn]
                recent.append(_words(model, tokens, batches, update, step))
                yield what, step, most, recent[-1]
                if len(recent) == RECENT and fmean(recent) < learned:
                    break
            if not fmean(recent) < learned:
                raise ProspectError(
                    f"practice: after {most} steps on {what} the loss is {fmean(recent):.3f}, expected below "
                    f"{learned:g}: the lookup was not learned; pass another --seed"
                )
    for step, loss in enumerate(_pictures(model, tokens, rng, lengths.pictures), 1):
        yield "pictures", step, lengths.pictures, loss


def _words(
    model: DSTSmolVLM,
    tokens: Tokens,
    batches: Sequence[Sequence[PracticeClip]],
    update: Callable[[Tensor, float], None],
    step: int,
) -> float:
    """Learn the text model from batches, each as much; give the loss of the first one's updates, a token."""
    outputs = [model(**batch(model, tokens, clips)) for clips in batches]
    update(torch.stack([total_loss(one.sums, one.counts) for one in outputs]).sum(), min(1, step / WARMUP))
    return float(outputs[0].sums[1].detach() / outputs[0].counts[1])


def _pictures(model: DSTSmolVLM, tokens: Tokens, rng: np.random.Generator, steps: int) -> Iterator[float]:
    """Learn tower and connector; give, after each step, the cross entropy of a frame's words among all there are."""
    with torch.no_grad():
        wanted = _embedded(model, tokens, CAPTIONS)  # (C, D)
    frames, size = captioned(rng), model.config.vision_config.image_size
    pool = list(islice(frames, POOL))
    with _learning([*model.model.vision_model.parameters(), *model.model.connector.parameters()], 2e-3) as update:
        for step in range(1, steps + 1):
            taken = [pool.pop(int(rng.integers(len(pool)))) for _ in range(PICTURES)]
            pool += islice(frames, PICTURES)
            pixels = torch.stack(
                [torch.from_numpy(decode_frame(image, size, "a drawn frame")) for image, _ in taken]
            )  # (F, 3, S, S)
            labels = torch.tensor([CAPTIONS.index(words) for _, words in taken])  # (F,)
            features = model.encode_frames(pixels)[:, 0]  # (F, D)
            likeness = F.normalize(features, dim=1) @ F.normalize(wanted, dim=1).T  # (F, C)
            told = F.cross_entropy(likeness / TEMPERATURE, labels)
            apart = (features - wanted[labels]).square().sum(1).mean() / wanted.square().sum(1).mean()
            update(told + apart, min(1, step / WARMUP, (steps - step + 1) / (0.3 * steps)))
            yield float(told.detach())


@contextmanager
def _learning(parameters: list[nn.Parameter], rate: float) -> Iterator[Callable[[Tensor, float], None]]:
    """Give a function that takes a step of AdamW from a loss, with a share of the rate."""
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=BETAS, weight_decay=0, fused=True)

    def update(loss: Tensor, share: float) -> None:
        optimizer.param_groups[0]["lr"] = rate * share
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    yield update


def batch(model: DSTSmolVLM, tokens: Tokens, clips: Sequence[PracticeClip]) -> dict[str, Tensor]:
    """Give the inputs of a training forward, padded on the right."""
    sequences = [sequence(tokens, one) for one in clips]
    longest = max(map(len, sequences))

    def padded(name: str, value: int) -> Tensor:
        rows = [getattr(one, name) + [value] * (longest - len(one)) for one in sequences]
        return torch.tensor(rows)  # (B, T)

    features = _embedded(model, tokens, (words for one in clips for words in one.words))
    return {
        "input_ids": padded("ids", tokens.end_of_utterance),
        "target_kind": padded("target_kind", 0),
        "update_labels": padded("update_labels", -100),
        "speak_labels": padded("speak_labels", -100),
        "features": features[:, None],  # (F, 1, D)
    }


def sequence(tokens: Tokens, one: PracticeClip) -> TokenSequence:
    """Lay a practice clip out as any other."""
    clip = one.clip
    return clip_sequence(tokens, clip, Part(clip.start_frame, clip.end_frame, clip.initial_state, 0))


def _embedded(model: DSTSmolVLM, tokens: Tokens, captions: Iterable[tuple[str, str]]) -> Tensor:
    """Give the mean of each caption's embeddings (C, D); the vocabulary has its words whole."""
    ids = [[tokens.encode(f" {word}")[0] for word in words] for words in captions]
    embeddings: Tensor = model.get_input_embeddings()(torch.tensor(ids))  # (C, 2, D)
    return embeddings.mean(1)
