"""The same records scored by ProAssist's own functions (`--scorer proassist`), where its package is installed.

Window, matching and text scores are those of the package `mmassist`; pooling is `speech_scores`', as the package's
lives in an evaluator that loads a model, and so is what is undefined. Its matching drops a pair at zero cost (same
frame, same embedding).
"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

from pipeline.errors import ProspectError
from prospect.evaluation.events import SpeechEvent
from prospect.evaluation.matching import DISTANCE_FACTOR, DISTANCE_POWER, SpeechMatch, SpeechPair
from prospect.evaluation.predictions import ClipPrediction, proassist_records
from prospect.evaluation.speech_scores import matched_texts, speech_metrics, speech_terms
from prospect.evaluation.text_scores import ALIKE, TEXT_SCORES, TextScores, alike, missing


def proassist_scores(
    predictions: Sequence[ClipPrediction], model: Any
) -> tuple[dict[str, float | int | None], str | None]:
    """Give ProAssist's metrics over all clips, and what kept its text scores (then None) from being computed.

    Args:
        model: a SentenceTransformer (`Embedder.model`).

    Raises:
        ProspectError: mmassist is not installed, or cannot be imported.
    """
    try:
        from mmassist.eval.eval_utils import get_match_time_window
        from mmassist.eval.evaluators.pred_match import find_match
        from mmassist.eval.runners.stream_inference import FrameOutput
    except ImportError as error:
        raise ProspectError(
            f"scorer 'proassist': ProAssist's package mmassist cannot be imported ({error}); install ProAssist into "
            "this environment, or use our scorer of the same definitions"
        ) from None
    matches = []
    for prediction in predictions:
        clip = prediction.clip
        outputs = [FrameOutput(**record) for record in proassist_records(prediction)]
        if not any(output.gen for output in outputs):  # its matching takes no clip in which nothing is said
            matches.append(SpeechMatch((), tuple(_reference(output) for output in outputs if output.ref), ()))
            continue
        left, right = get_match_time_window(clip.dataset)
        matching = find_match(
            eval_outputs=outputs,
            sts_model=model,
            match_window=(int(left * clip.fps), int(right * clip.fps)),
            dist_func_factor=DISTANCE_FACTOR,
            dist_func_power=DISTANCE_POWER,
        )
        pairs = zip(matching.matched, matching.semantic_scores, strict=True)
        matches.append(
            SpeechMatch(
                tuple(SpeechPair(_predicted(gen), _reference(ref), score) for (gen, ref), score in pairs),
                tuple(map(_reference, matching.missed)),
                tuple(map(_predicted, matching.redundant)),
            )
        )
    texts = _text_scores(matched_texts(matches))
    terms = [speech_terms(match, prediction.clip.fps) for match, prediction in zip(matches, predictions, strict=True)]
    return speech_metrics(terms, texts), texts.problem


def _text_scores(pairs: Sequence[tuple[str, str]]) -> TextScores:
    if not pairs:
        return TextScores(dict.fromkeys(TEXT_SCORES), None)
    if problem := missing():
        return TextScores(dict.fromkeys(TEXT_SCORES), problem)
    from mmassist.eval.metrics.nlg_scorer import NLGEval

    references = {str(number): [reference] for number, (_, reference) in enumerate(pairs)}
    hypotheses = {str(number): predicted for number, (predicted, _) in enumerate(pairs)}
    with contextlib.redirect_stdout(io.StringIO()):  # its BLEU prints its counts
        scores = NLGEval().compute_metrics(references, hypotheses)
    found: dict[str, float | None] = {name: float(scores[name]) for name in TEXT_SCORES}
    undefined = alike(reference for _, reference in pairs)
    return TextScores(found | {"CIDEr": None}, ALIKE) if undefined else TextScores(found, None)


def _predicted(output: Any) -> SpeechEvent:
    return SpeechEvent(output.frame_idx_in_original_video, output.gen)


def _reference(output: Any) -> SpeechEvent:
    return SpeechEvent(output.frame_idx_in_original_video, output.ref)
