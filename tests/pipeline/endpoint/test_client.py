"""The client of chat completions; what it does with a server's faults: see tests/pipeline/spans/test_by_endpoint.py."""

import threading

import pytest

from pipeline.endpoint.client import Client, Endpoint
from pipeline.errors import ProspectError
from tests.helpers.chat import Chat, answer_by_words


@pytest.fixture
def chat():
    chat = Chat(answer_by_words)
    yield chat
    chat.stop()


def test_an_answer_that_trickles_in_is_given_up_as_a_whole(chat):
    """Each part comes within the time, all of them together do not."""
    seconds = iter([0.0, 21.0])
    client = Client(Endpoint(chat.url, "m", timeout_s=20, retries=0), threading.Event(), clock=lambda: next(seconds))
    with pytest.raises(ProspectError, match="got 'no whole answer within 20 s', 1 times"):
        client.ask([{}, {"content": "Steps:\n\nBlocks:\n"}], {}, {}, "")


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://host/v1", "http://", "http://ho st/v1", "http://host:port/v1", "http://a:b@host/v1"],
)
def test_urls_that_cannot_be_asked_are_refused_without_their_password(url):
    with pytest.raises(ProspectError, match=r"^--base-url: found") as caught:
        Client(Endpoint(url, "m"), threading.Event())
    assert "a:b" not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-\n1", "sk-\u2013", ""])
def test_a_key_that_no_header_may_have_is_refused_and_not_shown(key):
    with pytest.raises(ProspectError, match="the endpoint's key: found characters") as caught:
        Client(Endpoint("http://localhost/v1", "m", key), threading.Event())
    assert "sk" not in str(caught.value)


def test_the_host_is_that_of_the_url_with_its_port():
    assert Client(Endpoint("http://localhost:8000/v1/", "m"), threading.Event()).host == "localhost:8000"
