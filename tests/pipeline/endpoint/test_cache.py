import pytest

from pipeline.endpoint.cache import AnswerCache
from pipeline.errors import ProspectError


def test_what_was_kept_with_an_answer_is_there_when_the_file_is_read_again(tmp_path):
    cache = AnswerCache(tmp_path / "answers.jsonl")
    cache.add("k", "yes", {"host": "h:1", "parameters": {}})
    for one in (cache, AnswerCache(tmp_path / "answers.jsonl")):
        assert ("k" in one, "x" in one, one["k"], one.about("k", "host")) == (True, False, "yes", "h:1")
        assert one.about("k", "date") is one.about("k", "parameters") is None


def test_a_file_of_something_else_is_not_appended_to(tmp_path):
    (tmp_path / "answers.jsonl").write_text("my notes\n")
    with pytest.raises(
        ProspectError, match=r"answers.jsonl: found no answer in it, expected a file of answers, or none"
    ):
        AnswerCache(tmp_path / "answers.jsonl")
