"""What the checks of manifest, index and samples share: strict kinds of values, and pydantic's word in our grammar.

WHERE: field: found X, expected Y; build the shards again
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from pipeline.errors import ProspectError

Count = Annotated[StrictInt, Field(ge=0, le=2**63 - 1)]
Frame = Annotated[StrictInt, Field(ge=0, le=2**31 - 1)]
Text = Annotated[StrictStr, Field(min_length=1)]
LONGEST = 80  # characters of a value in an error


class Record(BaseModel):
    """A record that is checked when it is read back, as it may come from anywhere; other keys are left alone."""

    model_config = ConfigDict(frozen=True)


class Mismatch(ValueError):
    """A value that a record's own check objects to, where pydantic's types alone say too little."""

    def __init__(self, field: str, found: object, expected: str) -> None:
        super().__init__(f"{field}: found {_short(found)}, expected {expected}")


def refusal(where: str, error: ValidationError) -> ProspectError:
    """Give the first mistake of a record as the error that a user sees."""
    detail = error.errors(include_url=False)[0]
    if detail["type"] == "value_error":  # a Mismatch
        told = str(detail["ctx"]["error"])
    elif detail["type"] == "missing":
        told = f"{_field(detail['loc'])}: found nothing, expected this key"
    else:
        said = detail["msg"].removeprefix("Input should be ").removeprefix("Input should ")
        told = f"{_field(detail['loc'])}: found {_short(detail['input'])}, expected {said[:1].lower()}{said[1:]}"
    return ProspectError(f"{where}: {told}; build the shards again (--force)")


def _field(place: tuple[int | str, ...]) -> str:
    return ".".join(map(str, place)) or "record"


def _short(value: object) -> str:
    text = ascii(value) if isinstance(value, str | bytes | int | float | None) else type(value).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
