"""Steps of recipes and instructions as people write them, worked by hand, and of real ones."""

import json

import pytest

from pipeline.importers.knowledge import read_knowledge
from tests.helpers.places import REAL


@pytest.mark.parametrize(
    ("text", "steps", "num_left_out"),
    [
        ("", [], 0),
        ("Just do it", [], 1),
        ("1. a\n2. b", ["a", "b"], 0),
        ("Tea\n1. Boil the water\n2) Pour it:\n   - slowly\n\n3. Drink", ["Boil the water", "Pour it: - slowly", "Drink"], 1),
        # data.md 19: ingredients became S1, S2; the note stuck to the last step
        ("Ingredients\n1. 2 eggs\n2. flour\n\n1. Mix\n2. Bake\n\nNote: keep cool. Enjoy!", ["Mix", "Bake"], 4),
        ("Ingredients:\n- eggs\n- flour\n\n1. Mix\n2. Bake\nNote: hot\nvery", ["Mix", "Bake"], 5),
        ("Cake\n\n**Tools and Utensils**\n1. Bowl\n\n## Instructions:\n1. Mix\n\nServe it warm.", ["Mix"], 5),
        ("What you need:\n1. a\n2. b\nSteps to make tea:\n1. x\n**Note:** y\n2. z", ["x", "z"], 5),
        # bullets, bold, 1.x, Step 1:
        ("Cake\n**Ingredients**\n* 2 eggs\n\n**Directions**\n* Mix\n\u2022 Bake\n\nEnjoy!", ["Mix", "Bake"], 5),
        ("- a\n- b\n  c\n\n- d", ["a", "b c", "d"], 0),
        ("**1.** **Mix** it\n**2. Bake it**", ["Mix it", "Bake it"], 0),
        ("1.Mix\n2.Bake for\n1.5 hours at\n350. Then cool\n3)Serve", ["Mix", "Bake for 1.5 hours at 350. Then cool", "Serve"], 0),
        ("Step 1: Mix\nSTEP 2 - Bake\n### Step 3:\nServe", ["Mix", "Bake", "Serve"], 0),
        ("1. a\n\n   more of a\n\n2. b\n\nThe end", ["a more of a", "b"], 1),
        ("1. a\n1. b\n1. c", ["a", "b", "c"], 0),
        ("Tools cabinet\n1. a\n2. b", ["a", "b"], 1),
    ],
)  # fmt: skip
def test_steps_are_read_and_other_lines_counted(text, steps, num_left_out):
    found = read_knowledge(text)
    assert (found.steps, found.num_left_out) == (steps, num_left_out)


if REAL.is_dir():

    @pytest.mark.parametrize(
        ("source", "count", "num_left_out"), [("assembly101", 8, 1), ("epickitchens", 9, 1), ("wtag", 12, 11)]
    )
    def test_real_knowledge(source, count, num_left_out):
        records = json.loads((REAL / "proassist_generated" / f"{source}_train_filtered.json").read_text())
        (record,) = records if isinstance(records, list) else [records]
        found = read_knowledge(record["inferred_knowledge"])
        assert (len(found.steps), found.num_left_out) == (count, num_left_out)
        if source == "wtag":
            assert found.steps[0] == "Place tortilla on cutting board."
            assert found.steps[1].endswith("leaving 1/2- inch uncovered at the edges.")
