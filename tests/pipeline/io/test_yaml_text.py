"""YAML 1.2, and what is written reads back."""

import pytest
import yaml

from pipeline.io.yaml_text import read_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("true", True), ("FALSE", False), ("~", None), ("", None), ("null", None),
        ("1:30", "1:30"), ("1:30.5", "1:30.5"), ("010", 10), ("0o10", 8), ("0x1F", 31), ("-7", -7), ("1_000", "1_000"),
        ("1e-4", 1e-4), ("1.", 1.0), (".5", 0.5), ("-.inf", float("-inf")), ("2001-12-14", "2001-12-14"),
        ("{a: [1, x]}", {"a": [1, "x"]}), ("[&a [1], *a]", [[1], [1]]), ("<<: 1", {"<<": 1}),
    ],
)  # fmt: skip
def test_a_value_is_what_yaml_1_2_says(text, value):
    found = read_yaml(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        "no",
        "1e-4",
        "1:30",
        "010",
        "2001-12-14",
        "0o10",
        "~",
        "",
        "1_0",
        "x: y",
        1e-4,
        0.1,
        10,
        True,
        None,
        [1],
        {"a": None},
    ],
)
def test_what_is_written_reads_back_here_and_in_yaml_1_1(value):
    assert read_yaml(write_yaml({"x": value})) == yaml.safe_load(write_yaml({"x": value})) == {"x": value}


@pytest.mark.parametrize(
    "text",
    ["a: 1\na: 2", "{a: 1, b: {c: 1, c: 2}}", "a: *b", "!!python/name:os.system x", "!!int x", "[", "\x00", "9" * 101],
)
def test_what_is_no_yaml_or_says_a_thing_twice_is_one_line(text):
    with pytest.raises(ValueError, match=r"^not valid YAML [^\n]*$"):
        read_yaml(text)
