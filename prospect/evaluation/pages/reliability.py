"""reliability.html of a calibration: how far both heads' probabilities can be trusted, and which threshold each got.

One file that opens offline; it shows what calibration.json holds, and says in words what that comes to.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.io.storage import write_atomically
from prospect.evaluation.thresholds import NUM_BINS
from prospect.pages.html import one_file
from prospect.runs import run_of

MARK = "PROSPECT calibration"  # in the title
HEADS = {  # its threshold's name, its look, what it decides
    "should_update_dst": ("update_threshold", "update", "the state changes"),
    "when_to_speak": ("speak_threshold", "speak", "the assistant speaks"),
}
TRUSTED = 0.02  # calibration error
FLAT = 0.01  # of F1: thresholds within it of the best are as good


def write_reliability(path: Path, record: Mapping[str, Any]) -> None:
    """Write the page, whole or not at all.

    Args:
        record: what calibration.json holds; the first pair that was tried is the one that is stored.
    """
    checkpoint, chosen = str(record["checkpoint"]), record["tried"][0]
    run = run_of(Path(checkpoint))
    where = ", ".join(" ".join(str(place).rstrip("/").split("/")[-2:]) for place in record["data"])
    title = f"{MARK} · {run.name if run else checkpoint} · {where}"
    about = {
        "title": f"How far the probabilities of {run.name if run else checkpoint} can be trusted",
        "facts": [where, f"{record['num_clips']} clips", checkpoint],
        "notes": record["notes"],
        "grid": record["grid"],
        "heads": [_head(name, of_head, record, chosen) for name, of_head in record["reliability"].items()],
    }
    styles = ("chart.css", "reliability/reliability.css")
    write_atomically(path, "".join(one_file(title, "reliability/main.js", styles, [("about", about)])).encode())


def _head(
    name: str, of_head: Mapping[str, Any], record: Mapping[str, Any], chosen: Mapping[str, Any]
) -> dict[str, Any]:
    threshold, look, decides = HEADS[name]
    f1, bins = record["sweep"].get(name), of_head["bins"]
    sentences = [
        _trust(bins, of_head["ece"], decides),
        _chosen(chosen[threshold], f1, record["grid"], chosen[f"{name}_f1"]),
    ]
    return {
        "id": name,
        "name": f"{name}: whether {decides}",
        "look": look,
        "sentences": sentences,
        "bins": [[*one, *_edges(one[0])] for one in bins],
        "f1": f1,
        "threshold": chosen[threshold],
    }


def _edges(mean: float) -> tuple[float, float]:
    """The bin that a mean is of."""
    place = min(int(mean * NUM_BINS), NUM_BINS - 1)
    return place / NUM_BINS, (place + 1) / NUM_BINS


def _trust(bins: Sequence[Sequence[float]], ece: float, decides: str) -> str:
    """Say whether probabilities can be taken as they are, and if not, which way they are off."""
    total = sum(count for _, _, count in bins)
    said, true = (sum(one[place] * one[2] for one in bins) for place in (0, 1))
    error = f"Its probabilities are off by {ece:.3f} on average over {total:,} decisions"
    if ece <= TRUSTED:
        return f"{error}: they can be taken as they are."
    how = "too high" if said > true else "too low"
    return (
        f"{error}, {how} on the whole: it says that {decides} {said:.0f} times, and that is so {true:.0f} times. Take "
        "them as an order, not as shares."
    )


def _chosen(threshold: float, f1: Sequence[float] | None, grid: Sequence[float], streamed: float | None) -> str:
    if f1 is None:
        return f"There were no such events to find a threshold on; {threshold:g}, the default, is stored."
    best = max(f1)
    good = [at for at, value in zip(grid, f1, strict=True) if value >= best - FLAT]
    told = f"Its threshold is {threshold:g}" + (
        "" if streamed is None else f", with which it streams at F1 {streamed:.3f}"
    )
    if len(good) == 1:
        return f"{told}; no other threshold comes within {FLAT:g} of its best, {best:.3f}."
    return f"{told}; thresholds from {good[0]:g} to {good[-1]:g} come within {FLAT:g} of its best, {best:.3f}."
