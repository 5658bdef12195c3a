"""The steps in a task's knowledge, as ProAssist's sources write it: recipes and instructions, for people.

1. A heading (Ingredients, Tools, Steps, Note, ...) begins a section. If one is of steps, steps stand there alone; else
   anywhere but under ingredients, tools and notes.
2. Numbered lines are steps (`1. x`, `1) x`, `1.x`, `Step 1: x`, bold or not); bullets are, where no line is numbered.
3. A line below a step belongs to it, and below an empty line if another step follows. Remarks (`Note: ...`, `Enjoy!`)
   and what comes after the last step do not.

Every expression is matched against one stripped line, in time linear in its length.
"""

import re
from dataclasses import dataclass
from typing import Literal

Section = Literal["steps", "other", "plain"]

NUMBER = re.compile(r"(?:step\s+)?(\d{1,3})\s?[.):](?!\d)[*_]{0,3}\s*(.*)", re.IGNORECASE)
WORDED = re.compile(r"step\s+(\d{1,3})\b[*_]{0,3}\s*[-\u2013\u2014]?\s*(.*)", re.IGNORECASE)  # "Step 1 - x"
BULLET = re.compile(r"[-*+\u2022\u00b7\u2013\u25e6\u25aa]\s+(.*)")
REMARK = re.compile(r"[*_(]{0,3}(?:notes?|tips?|enjoy|serving suggestions?|warning|caution)\b[*_]{0,3}\s*[:!.]", re.I)
MOST_SKIPPED = 3  # numbers that a list may skip; a line that begins with "350." is none of it
MARKS = "#*_-\u2022"
OF_STEPS = {"steps", "instruction", "instructions", "directions", "method", "procedure"}
OF_OTHERS = {"ingredient", "ingredients", "tools", "utensils", "equipment", "materials", "supplies", "parts", "need"}
OF_OTHERS |= {"note", "notes", "tip", "tips"}
SMALL_WORDS = {"and", "or", "for", "the", "of", "a", "required", "needed", "list", "what", "you", "will", "your"}
HEADING_WORDS = 5  # at most; a longer line is a sentence


@dataclass(frozen=True, slots=True)
class Knowledge:
    steps: list[str]
    num_left_out: int  # lines that are in no step: title, ingredients, remarks


def read_knowledge(text: str) -> Knowledge:
    """Read the steps of a task's knowledge, in order."""
    lines = [line.strip() for line in text.splitlines()]
    sections = _sections(lines)
    wanted = "steps" if "steps" in sections else "plain"
    kept = [line if section == wanted else "" for line, section in zip(lines, sections, strict=True)]
    is_numbered = any(map(_numbered, kept))
    steps: list[list[str]] = []
    waiting: list[str] = []  # lines below an empty line: a step's, if another step follows
    is_below = is_remark = False
    number = 0
    for line in kept:
        item = _numbered(line) if is_numbered else _bulleted(line)
        if item and (item[0] == 1 or not steps or number < item[0] <= number + 1 + MOST_SKIPPED or not is_numbered):
            if steps:
                steps[-1] += waiting
            steps.append([item[1]])
            number, waiting, is_below, is_remark = item[0], [], True, False
        elif not line:
            is_below = False
        elif not steps or is_remark or REMARK.match(line):
            is_remark = bool(steps)
        elif is_below:
            steps[-1].append(line)
        else:
            waiting.append(line)
    names = [name for step in steps if (name := _plain(" ".join(step)))]
    return Knowledge(names, sum(map(bool, lines)) - sum(map(len, steps)))


def _sections(lines: list[str]) -> list[Section]:
    """The section in which each line stands; a heading itself is in none of steps."""
    section: Section = "plain"
    is_first = True  # no line of the section was seen
    sections: list[Section] = []
    for line in lines:
        heading = _heading(line)
        item = _numbered(line)
        if heading:
            section, is_first = heading, True
        elif line:
            if section == "other" and item and item[0] == 1 and not is_first:
                section = "plain"  # what is listed there ended: numbers begin, or begin again
            is_first = False
        sections.append("other" if heading else section)
    return sections


def _heading(line: str) -> Section | None:
    """The section that a line begins: `Ingredients`, `**Tools and Utensils**`, `Steps to make tea:`."""
    words = [word.lower() for word in re.split(r"[^A-Za-z]+", line) if word]
    if not 0 < len(words) <= HEADING_WORDS or _numbered(line) or _bulleted(line) or line[-1] in ".!?,;":
        return None
    is_marked = line[0] in "#*_" or line[-1] == ":"
    is_all = all(word in OF_STEPS | OF_OTHERS | SMALL_WORDS for word in words)
    if OF_STEPS.intersection(words) and (is_marked or is_all):
        return "steps"
    if OF_OTHERS.intersection(words) and (is_all or words[0] in ("ingredient", "ingredients")):
        return "other"
    return None


def _numbered(line: str) -> tuple[int, str] | None:
    """Number and text of a numbered line, with or without the marks of a heading, a bullet or bold text before it."""
    line = line.lstrip(MARKS + " ")
    found = NUMBER.fullmatch(line) or WORDED.fullmatch(line)
    return (int(found[1]), found[2].strip()) if found else None


def _bulleted(line: str) -> tuple[int, str] | None:
    found = BULLET.fullmatch(line)
    return (0, found[1].strip()) if found else None


def _plain(text: str) -> str:
    """Without the marks of bold text."""
    return " ".join(text.replace("**", "").replace("__", "").split())
