"""Clips: cards with a storyboard, what is asked of them, and a clip's page."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.annotations.clips import ACTIVE_ROLES, Clip
from pipeline.annotations.edits import Draft, range_of, role_of, steps_of, transitions_of
from pipeline.errors import ProspectError
from prospect.pages.pictures import frame_jpeg, shown_jpeg
from prospect.pages.storyboard import evenly
from prospect.web.browse.library import KINDS, Library, Samples
from prospect.web.browse.tokens import TokenViews
from prospect.web.review.disagreements import Disagreement, disagreements
from prospect.web.review.views import clip_view, text_of

NUM_TILES, MOST_CARDS = 6, 60  # pictures of a card; cards of an answer
MOST_STEPS = 500  # that a page offers to choose from
ERRORS: Mapping[str, tuple[bool, tuple[str, ...]]] = {  # name -> of speech?, kinds of `mistakes.py`
    "missed_update": (False, ("missed",)),
    "wrong_update": (False, ("wrong_step", "wrong_transition")),
    "false_update": (False, ("spurious", "repeated")),
    "missed_speech": (True, ("missed",)),
    "redundant_speech": (True, ("spurious", "repeated")),
}
PLAIN = ("key", "title", "of", "fps", "first", "last", "seconds", "silence", "num_steps", *(f"num_{k}" for k in KINDS))


class Clips:
    """The section of clips (`shell.Section`)."""

    name = "clips"

    def __init__(self, library: Library, tokens: TokenViews) -> None:
        self.library, self.tokens = library, tokens
        self._mistakes: dict[str, dict[str, Counter[str]]] = {}  # evaluation -> key -> error -> how many

    def about(self) -> Any:
        table = self.library.table
        steps = table["steps"].str.split("\n").explode().drop_nulls()
        names = steps.filter(steps != "").value_counts(sort=True).head(MOST_STEPS)["steps"].to_list()
        return {
            "count": len(table),
            "of": sorted(table["of"].unique().to_list()),
            "steps": sorted(names),
            "kinds": list(KINDS),
            "runs": list(self.library.predictions),
            "errors": list(ERRORS),
        }

    def answer(self, place: Sequence[str], query: Mapping[str, str]) -> Any:
        match place:
            case ["cards"]:
                return self.cards(query)
            case ["clip", key]:
                return self.clip(key)
            case ["tokens", key]:
                return self.tokens.of(self.library, key)
        raise ProspectError(f"{'/'.join(place)[:100]}: there is no such page of clips")

    def published(self) -> Iterator[tuple[Sequence[str], Any]]:
        yield ["cards"], {"cards": [self._published_card(key) for key in self.library.places]}
        for key in self.library.places:
            yield ["clip", key], self.clip(key)
            if self.tokens.config is not None:
                yield ["tokens", key], self.tokens.of(self.library, key)

    def cards(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Give the cards from `from` on, at most `count`, of the clips that meet the query, and how many do."""
        found = self.found(query)
        first, count = _whole(query, "from", 0), min(_whole(query, "count", 24), MOST_CARDS)
        return {"total": len(found), "cards": [self.card(key) for key in found[first : first + count]]}

    def found(self, query: Mapping[str, str]) -> list[str]:
        """List the keys of clips that meet a query: text, step, kind, of, run and error, each if it is there.

        Raises:
            ProspectError: a kind, a run or an error that there is not.
        """
        text, step, kind = (query.get(name, "") for name in ("text", "step", "kind"))
        conditions = [pl.lit(True)]
        if text:
            conditions.append(pl.col("text").str.contains(text.lower(), literal=True))
        if step:
            conditions.append(pl.col("steps").str.contains(step.lower(), literal=True))
        if kind:
            conditions.append(pl.col(f"num_{_one_of('kind', kind, KINDS)}") > 0)
        if of := query.get("of", ""):
            conditions.append(pl.col("of") == of)
        if error := query.get("error", ""):
            _one_of("error", error, ERRORS)
            runs = [_one_of("run", query["run"], self.library.predictions)] if query.get("run") else self._runs
            keys = {key for run in runs for key, counts in self.mistakes(run).items() if counts[error]}
            conditions.append(pl.col("key").is_in(list(keys)))
        return self.library.table.filter(pl.all_horizontal(conditions))["key"].to_list()

    def mistakes(self, run: str) -> dict[str, Counter[str]]:
        """Count a run's mistakes by clip and error; its predictions are read at the first call."""
        if run not in self._mistakes:
            folder = self.library.predictions[run].folder
            there = (path.stem for path in sorted(folder.glob("*.json")) if path.stem in self.library.places)
            self._mistakes[run] = {
                key: _errors(self._compared(key, self.library.checked(key)[1], run)) for key in there
            }
        return self._mistakes[run]

    def card(self, key: str) -> dict[str, Any]:
        """Give what a card shows."""
        draft, clip, problems = self.library.checked(key)
        about = self.library.about(key)
        mistakes: dict[str, dict[str, int]] = {}
        broken = []
        for run in self._runs:
            try:
                found = self._compared(key, clip, run)
            except ProspectError as error:
                broken.append(str(error))
            else:
                mistakes |= {} if found is None else {run: dict(_errors(found))}
        return {name: about[name] for name in PLAIN} | {
            "num_problems": len(problems),
            "tiles": storyboard(draft, about["first"], about["last"]),
            "frames": self._frames(key),
            "mistakes": mistakes,
            "broken": broken,
        }

    def clip(self, key: str) -> dict[str, Any]:
        """Give all that a clip's page draws."""
        about, told = self.library.about(key), self._frames(key)
        frames = None if told["missing"] or told["embedded"] else self.library.frames(key)
        draft, clip, problems = self.library.checked(key, "first" if frames else "rows")  # may be looked at without
        view = clip_view(draft, clip, problems, frames)
        samples = self.library.samples.get(key)
        return view | {
            "key": key,
            "kind": "clips",
            "title": about["title"],
            "of": about["of"],
            "file": about["file"],
            "goal": clip.goal if clip else "",
            "silence": about["silence"],
            "steps": _steps(draft),
            "frames": told,
            "samples": _samples(samples) if samples else [],
            **self._commands(key, samples),
            "compared": {run: self._shown_compared(key, clip, run) for run in self._runs},
            "tokens": self.tokens.name,
        }

    def picture(self, key: str, index: int, height: int | None) -> bytes:
        """Give a frame of a clip as a JPEG: from its frames file, or out of the shards.

        Raises:
            ProspectError: it cannot be had.
        """
        samples = self.library.samples.get(key)
        if samples and samples.split.manifest.options.embed_frames:
            rows = samples.split.index[samples.first : samples.end]
            at = (rows["start_frame"] <= index) & (rows["end_frame"] >= index)
            places: list[int] = at.arg_true().to_list()
            if not places:
                raise ProspectError(f"frame {index}: not in the samples of the clip")
            row, start = samples.first + places[0], rows.item(places[0], "start_frame")
            return shown_jpeg(samples.split.members(row, [1 + index - start])[0], None, height)
        return frame_jpeg(self.library.frames(key), index, height)

    def frames_to_publish(self, key: str, most: int) -> list[int]:
        """Choose the frames of a clip whose pictures are published: those of its card and of events, others between."""
        frames, about, (draft, _, _) = self._frames(key), self.library.about(key), self.library.checked(key)
        first, last = about["first"], min(about["last"], frames["count"] - 1)
        if last < first:
            return []
        chosen = {tile["frame"] for tile in storyboard(draft, first, last)}
        places = (range_of(draft, number) for number in range(len(draft.items)))
        events = sorted({place[1] for place in places if place and first <= place[1] <= last} - chosen)
        chosen.update(evenly(events, most - len(chosen)))
        others = [frame for frame in range(first, last + 1) if frame not in chosen]
        chosen.update(evenly(others, most - len(chosen)))
        return sorted(chosen)

    @property
    def _runs(self) -> list[str]:
        return list(self.library.predictions)

    def _published_card(self, key: str) -> dict[str, Any]:
        row = self.library.about(key)
        return self.card(key) | {"text": row["text"], "steps": row["steps"]}

    def _compared(self, key: str, clip: Clip | None, run: str) -> list[Disagreement] | None:
        """Where a run's prediction of a clip and the clip disagree; None: it has none, or the clip has mistakes."""
        predictions = self.library.predictions[run]
        if not (predictions.folder / f"{key}.json").is_file():
            return None
        prediction = predictions.of(clip) if clip else None
        if clip is None or prediction is None:
            return None
        found = disagreements(clip, prediction)
        return found if prediction.tracks_state else [one for one in found if one.is_speech]

    def _shown_compared(self, key: str, clip: Clip | None, run: str) -> dict[str, Any]:
        """The prediction of a run beside the clip, or a sentence why there is none."""
        nothing: dict[str, Any] = {"ghosts": [], "disagreements": []}
        if clip is None:
            return nothing | {"told": "The clip has mistakes: it is held against no prediction."}
        try:
            compared = self.library.predictions[run].compared(clip)
        except ProspectError as error:
            return nothing | {"told": str(error)}
        return nothing | (compared or {"told": "There is no prediction of this clip."})

    def _frames(self, key: str) -> dict[str, Any]:
        """Whether there are pictures, their shape, and where there are none, why."""
        samples = self.library.samples.get(key)
        if samples and samples.split.manifest.options.embed_frames:
            return {"count": self.library.about(key)["last"] + 1, "aspect": 0, "missing": "", "embedded": True}
        try:
            frames = self.library.frames(key)
        except ProspectError as error:
            return {"count": 0, "aspect": 0, "missing": str(error), "embedded": False}
        aspect = frames.shape[1] / frames.shape[0] if frames.shape else 0
        return {"count": len(frames), "aspect": aspect, "missing": "", "embedded": False}

    def _commands(self, key: str, samples: Samples | None) -> dict[str, str]:
        """What shows its samples in a terminal: one, by the key that the page adds; or their list."""
        about = self.library.about(key)
        folder = _shown(samples.split.folder) if samples else f"shards/{about['of']}"
        command = f"prospect inspect-shard {shlex.quote(folder)}"
        tokens = f" --tokens --config {shlex.quote(self.tokens.name)}" if self.tokens.name else ""
        return {
            "command": command,
            "list_command": f"{command} --clip {shlex.quote(about['title'])}",
            "tokens_of": tokens,
        }


def storyboard(draft: Draft, first: int, last: int) -> list[dict[str, Any]]:
    """Choose the pictures of a card: frames with events, evenly many, and others evenly between where there are few.

    Each has what stands there: `what`, in order, of {look, shape, label}.
    """
    events: dict[int, list[dict[str, str]]] = {}
    for number, item in enumerate(draft.items):
        place, role = range_of(draft, number), role_of(item.value)
        if place is None or not first <= place[1] <= last or role not in ACTIVE_ROLES:
            continue
        at = events.setdefault(place[1], [])
        if role == "assistant":
            at.append({"look": "speak", "shape": "speech", "label": text_of(item.value)[:200]})
        at += [
            {"look": "update", "shape": name, "label": f"{step} {name}", "step": step}
            for step, name in transitions_of(item.value)
        ]
    chosen = evenly(sorted(events), NUM_TILES)
    others = [frame for frame in evenly(range(first, last + 1), NUM_TILES) if frame not in chosen]
    chosen += evenly(others, NUM_TILES - len(chosen))
    return [{"frame": frame, "what": events.get(frame, [])} for frame in sorted(chosen)]


def _errors(found: Sequence[Disagreement] | None) -> Counter[str]:
    counts: Counter[str] = Counter()
    for one in found or ():
        for name, (speech, kinds) in ERRORS.items():
            counts[name] += one.is_speech == speech and one.error.kind in kinds
    return +counts


def _steps(draft: Draft) -> list[dict[str, str]]:
    return [{"id": step, "name": name} for step, name in steps_of(draft)]


def _samples(samples: Samples) -> list[dict[str, Any]]:
    rows = samples.split.index[samples.first : samples.end]
    return list(rows.select("key", "kind", "start_frame", "end_frame").to_dicts())


def _shown(folder: object) -> str:
    """A folder as one types it here: relative where it lies below."""
    here = Path.cwd()
    return str(folder.relative_to(here) if isinstance(folder, Path) and folder.is_relative_to(here) else folder)


def _one_of(what: str, found: str, there: Mapping[str, Any]) -> str:
    if found not in there:
        raise ProspectError(f"{what}: found {found[:80]!r}, expected one of {', '.join(there)}")
    return found


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    value = query.get(name, "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else default
