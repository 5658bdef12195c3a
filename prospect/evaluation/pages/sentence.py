"""What an evaluation found, in one sentence: of all clips, or of one."""

from collections.abc import Mapping

COUNTS = ("reference", "found", "predicted")  # num_COUNT_updates and num_COUNT_speech of the metrics
FOUND = {
    "early": "early",
    "late": "late",
    "wrong_step": "of the wrong step",
    "wrong_transition": "with the wrong transition",
}
EXTRA = {"repeated": "made again", "spurious": "made up"}


def sentence(metrics: Mapping[str, float | None]) -> str:
    """Say how many updates and utterances were found, and what is wrong with them: "Found 4 of 10 updates, 3 late".

    Empty where the metrics have no counts (of an evaluation made before they had).
    """
    if any(f"num_{count}_{of}" not in metrics for count in COUNTS for of in ("updates", "speech")):
        return ""
    number = {name: int(value) for name, value in metrics.items() if value is not None}
    parts = [_updates(number), _speech(number)]
    told = "; ".join(part for part in parts if part)
    return f"{told[0].upper()}{told[1:]}."


def _updates(number: Mapping[str, int]) -> str:
    reference, predicted = number["num_reference_updates"], number["num_predicted_updates"]
    if not reference:
        return f"made {_count(predicted, 'update')} where none is annotated" if predicted else ""
    how = [f"{number[kind]} {said}" for kind, said in (FOUND | EXTRA).items() if number.get(kind)]
    return ", ".join([f"found {number['num_found_updates']} of {_count(reference, 'update')}", *how])


def _speech(number: Mapping[str, int]) -> str:
    reference, predicted = number["num_reference_speech"], number["num_predicted_speech"]
    extra = predicted - number["num_found_speech"]
    if not reference:
        return f"spoke {_times(predicted)} where nothing is to be said" if predicted else "was silent, as it should be"
    how = [f"{number[f'speech_{kind}']} {kind}" for kind in ("early", "late") if number.get(f"speech_{kind}")]
    told = ", ".join(
        [f"spoke at {number['num_found_speech']} of the {_count(reference, 'place')} where it should", *how]
    )
    return f"{told}, and {_times(extra)} where it should not" if extra else told


def _count(number: int, one: str) -> str:
    return f"{number} {one}{'' if number == 1 else 's'}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
