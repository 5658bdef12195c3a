"""How sure a metric is: bootstrap intervals over clips, from the terms that add up over clips.

Clips, not frames or events, are drawn with replacement, as those of one clip depend on each other. A draw is a count
for each clip, so all resamples of all metrics are one matrix product; nothing is matched or streamed again. C clips,
T terms, N resamples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prospect.evaluation.dst_scores import DELAY_QUANTILES
from prospect.evaluation.matching import FloatArray

Interval = tuple[float, float]  # the 2.5 and 97.5 percentiles
RESAMPLES = 1000
MOST_UNDEFINED = 50  # resamples that an interval leaves out


@dataclass(frozen=True, slots=True)
class Resampled:
    """What the resamples say of a metric."""

    interval: Interval | None  # 95%; None: fewer than two clips, or the metric is undefined in too many resamples
    num_undefined: int  # of the resamples, which are left out


def intervals(
    terms: FloatArray, ratios: Callable[[FloatArray], Mapping[str, FloatArray]], seed: int
) -> dict[str, Resampled]:
    """Give the 95% percentile interval of each pooled metric.

    Args:
        terms: (C, T), a row a clip: `DSTTerms.vector()`, or that of `SpeechTerms` or `BenchmarkTerms`.
        ratios: sums (N, T) to metrics (N), of the same terms, such as `dst_ratios`.
    """
    draws = _draws(len(terms), seed)  # (N, C)
    return {name: _resampled(values, len(terms)) for name, values in ratios(draws @ terms).items()}


def delay_intervals(delays_s: Sequence[Sequence[float]], seed: int) -> dict[str, Resampled]:
    """Give the same for the quantiles of the delays, which are `DSTTerms.delays_s` of each clip."""
    draws = _draws(len(delays_s), seed)
    clip_of = np.repeat(np.arange(len(delays_s)), [len(of_clip) for of_clip in delays_s])
    delays = np.array([delay for of_clip in delays_s for delay in of_clip], dtype=np.float64)
    order = np.argsort(delays)
    delays, times = delays[order], draws[:, clip_of[order]]  # times (N, delays): how often a resample has each
    interval_of = {}
    for name, share in DELAY_QUANTILES.items():
        values = [np.quantile(np.repeat(delays, drawn), share) if drawn.any() else np.nan for drawn in times]
        interval_of[name] = _resampled(np.array(values), len(delays_s))
    return interval_of


def _draws(num_clips: int, seed: int) -> npt.NDArray[np.int64]:
    """(N, C): how often each clip is in each resample; a row sums to C."""
    if not num_clips:
        return np.zeros((RESAMPLES, 0), dtype=np.int64)
    return np.random.default_rng(seed).multinomial(num_clips, np.full(num_clips, 1 / num_clips), size=RESAMPLES)


def _resampled(values: FloatArray, num_clips: int) -> Resampled:
    defined = values[~np.isnan(values)]
    num_undefined = len(values) - len(defined)
    if num_clips < 2 or num_undefined > MOST_UNDEFINED:
        return Resampled(None, num_undefined)
    low, high = np.quantile(defined, (0.025, 0.975))
    return Resampled((float(low), float(high)), num_undefined)
