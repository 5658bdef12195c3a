"""Servers that stall, never end, or say little; URLs with secrets. What a server does cannot hold a command for long."""

import itertools

import pytest

from pipeline.errors import ProspectError
from pipeline.io import remote
from pipeline.io.remote import RemoteFolder, open_folder, retried, shown
from pipeline.io.storage import LocalFolder
from tests.helpers.servers import Server

DATA = b"0123456789" * 10


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "served" / "x").mkdir(parents=True)
    (tmp_path / "served" / "x" / "a").write_bytes(DATA)
    return tmp_path / "served"


@pytest.fixture
def server(folder, monkeypatch):
    """A server; whoever asks it is patient for half a second, and asks twice."""
    monkeypatch.setattr(remote, "SILENT_S", 0.5)
    monkeypatch.setattr(remote, "TRIES", 2)
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 0)
    server = Server(folder)
    yield server
    server.stop()


def test_a_body_that_stalls_is_given_up_with_a_true_word(server):
    server.faults["a"] = ["stall", "stall"]
    expected = r"/x/a: \w*Timeout\w*: \S.*; expected a connection within 10 s, no pause over 0.5 s.*\(tried up to 2 times in 40 s\)"
    with pytest.raises(ProspectError, match=expected):
        RemoteFolder(f"{server.url}/x").read("a")
    assert server.requests["a"] == 2
    server.faults["a"] = ["stall"]
    assert RemoteFolder(f"{server.url}/x").read("a") == DATA, "a stall that passes"


def test_a_question_that_stalls_is_no_missing_file(server):
    """attack.md 9: after ten minutes it was "found no manifest.json"."""
    server.faults["HEAD a"] = ["stall"] * 2
    with pytest.raises(ProspectError, match=r"/x/a: \w*Timeout\w*: .*\(tried up to 2 times in 40 s\)"):
        RemoteFolder(f"{server.url}/x").has("a")
    assert RemoteFolder(f"{server.url}/x").has("a") and not RemoteFolder(f"{server.url}/x").has("b")


def test_a_few_bytes_now_and_then_are_given_up(server, monkeypatch):
    monkeypatch.setattr(remote, "monotonic", itertools.count(0, 20).__next__)  # 20 s from each look to the next
    monkeypatch.setattr(remote, "SILENT_S", 30)
    with pytest.raises(
        ProspectError, match=r"/x/a: TooSlow: 100 bytes in 40 s; .* 10 kB a second.*\(tried up to 2 times in 40 s\)"
    ):
        RemoteFolder(f"{server.url}/x").read("a")


@pytest.mark.parametrize(("seconds", "tries"), [([0, 41], 1), ([0, 20, 41], 2), ([0, 1, 2, 3, 4], 5)])
def test_a_silent_server_is_given_up_in_a_minute(monkeypatch, seconds, tries):
    """attack.md 9: no try is begun more than 40 s after the first; each waits 20 s for a byte."""
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 0)
    calls = []

    def silent():
        calls.append(1)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        retried(silent, iter(seconds).__next__)
    assert len(calls) == tries


def test_more_bytes_than_are_expected_are_not_taken(server, tmp_path):
    server.faults["a"] = ["endless"]
    with pytest.raises(ProspectError, match=r"/x/a: found more than 100 bytes, expected at most"):
        RemoteFolder(f"{server.url}/x").fetch("a", tmp_path / "copy", 100)
    assert (tmp_path / "copy").stat().st_size <= 10 * 2**20, "one piece more"
    assert server.requests["a"] == 1, "it is not asked for again"


def test_a_file_without_any_size_ends_somewhere(server, monkeypatch):
    monkeypatch.setattr(remote, "UNSTATED_BYTES", 1000)
    server.faults["a"] = ["endless"]
    with pytest.raises(ProspectError, match="found more than 1000 bytes"):
        RemoteFolder(f"{server.url}/x").read("a")


def test_a_server_that_tells_no_sizes_is_read(folder):
    server = Server(folder, sized=False)
    there = RemoteFolder(f"{server.url}/x")
    assert there.has("a") and there.read("a", 100) == DATA and there.size("a") == 100
    assert not there.has("b") and there.size("b") is None
    server.stop()


def test_a_query_stays_behind_every_file_and_credentials_are_sent(server):
    url = server.url.replace("http://", "http://user:secret@")
    there = open_folder(f"{url}?sig=hidden") / "x"
    assert there.read("a") == DATA and there.has("a")
    assert server.queries == {"sig=hidden"} and server.users == {"Basic dXNlcjpzZWNyZXQ="}


def test_secrets_of_a_url_are_never_told(server, tmp_path):
    url = server.url.replace("http://", "http://user:secret@")
    there = open_folder(f"{url}/x?sig=hidden")
    server.faults["a"] = [500, 500, 403]
    server.faults["c"] = ["endless"]
    told = [str(there), str(there / "y")]
    for ask in (lambda: there.read("a"), lambda: there.read("a"), lambda: there.read("b"), lambda: there.read("c", 9)):
        with pytest.raises(ProspectError) as caught:
            ask()
        told.append(str(caught.value))
    with pytest.raises(ProspectError) as caught:
        open_folder("nothing://user:secret@host/x?sig=hidden")
    told.append(str(caught.value))
    assert [text for text in told if "secret" in text or "hidden" in text] == []
    assert f"{server.url}/x/b: no such file" in told[4] and "500" in told[2] and "403" in told[3]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://u:p@h:1/a?q=1: cut", "https://h:1/a: cut"),
        ("at 's3://b/k' and http://h/a?b", "at 's3://b/k' and http://h/a"),
        ("url='http://u@h/x?y=z', again", "url='http://h/x', again"),
        ("http://h/@scope/x", "http://h/@scope/x"),
        ("no url, user@host?", "no url, user@host?"),
    ],
)
def test_a_text_is_shown_without_the_secrets_of_its_urls(text, expected):
    assert shown(text) == expected


def test_a_file_url_is_a_path(tmp_path):
    assert open_folder(f"file://{tmp_path}/a%20b") == LocalFolder(tmp_path / "a b")
