"""Whether there is something of each class to learn from: a head that never saw silence speaks at every frame."""

from collections.abc import Sequence

from pipeline.errors import ProspectError
from prospect.carried import as_learned
from prospect.config import Config
from prospect.data.index import Split, clips_of
from prospect.layout import frame_groups


def one_sided(config: Config, splits: Sequence[Split]) -> list[tuple[str, str]]:
    """List the classes of decisions that are trained and have no example in `splits`: (what was found, the fix)."""
    data, loss = config.data, config.train.loss
    kinds = {kind for split in splits for kind in split.index["kind"].unique()}
    updates, speech = bool(data.memory == "dst" and loss.dst_binary), bool(loss.speak_binary)
    found = []
    if updates and "dst_update" not in kinds:
        fix = "annotate states, or set data.memory=none for a model that only speaks"
        found.append(("no dst_update turn, so should_update_dst has no positives", fix))
    if speech and "assistant" not in kinds:
        fix = "annotate utterances, or set train.loss.speak_binary=0"
        found.append(("no assistant turn, so when_to_speak has no positives", fix))
    if (updates or speech) and not max(data.negatives.start, data.negatives.end or 0):
        found.append(("data.negatives of rate 0 at every step, so no negatives at frames", "raise it"))
    elif (updates or speech) and not any(_has_silence(config, split) for split in splits):
        margin = f", or one within data.event_margin {data.event_margin} after it" if data.event_margin else ""
        fix = "lower data.event_margin" if data.event_margin else "annotate the silence between events too"
        found.append((f"an event at every frame{margin}, so no negatives at frames", fix))
    return found


def refuse_one_sided(config: Config, splits: Sequence[Split]) -> None:
    """
    Raises:
        ProspectError: a head that is trained would see one class alone.
    """
    if found := one_sided(config, splits):
        where = ", ".join(str(split.folder) for split in splits)
        raise ProspectError(f"{where}: " + "; ".join(f"found {what}; {fix}" for what, fix in found))


def _has_silence(config: Config, split: Split) -> bool:
    return any(
        group.is_silent
        for clip in clips_of(split.index)
        for group in frame_groups(as_learned(clip, config.data.memory), config.data.event_margin)
    )
