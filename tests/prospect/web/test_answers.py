import socket

import pytest
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from pipeline.errors import ProspectError
from pipeline.io.frame_store import open_frames
from prospect.web.answers import answer, body, frame, get, inside, make_app, plain, post, upload
from prospect.web.server import Address
from tests.helpers.fakes import write_frames
from tests.helpers.waiting import wait_for
from tests.helpers.web import served

LOCAL = Address("127.0.0.1", 8000, None)


def client(*routes) -> TestClient:
    return TestClient(make_app(routes, LOCAL), base_url="http://127.0.0.1:8000")


def test_a_body_is_a_json_object_within_bounds(monkeypatch):
    async def echo(request):
        return answer(await body(request))

    local = client(post("/echo", echo))
    assert local.post("/echo", json={"a": 1}).json() == {"a": 1}
    for wrong in (b"{", b"[]", b"\xff", b"[" * 100_000):
        answered = local.post("/echo", content=wrong)
        assert answered.status_code == 400 and "load the page again" in answered.json()["error"]
    monkeypatch.setattr("prospect.web.answers.MOST_JSON", 8)
    assert local.post("/echo", json={"a": "123456789"}).status_code == 413


def test_an_upload_is_bounded_in_type_and_size():
    async def receive(request):
        async with upload(request, plain(request, "name"), (".mp4",), 10) as path:
            return answer({"size": path.stat().st_size, "name": path.name})

    local = client(post("/upload", receive))
    assert local.post("/upload?name=a.MP4", content=b"12345").json() == {"size": 5, "name": "upload.mp4"}
    assert (
        "found a file of type .exe, expected one of .mp4"
        in local.post("/upload?name=a.exe", content=b"1").json()["error"]
    )
    assert "empty" in local.post("/upload?name=a.mp4", content=b"").json()["error"]
    assert local.post("/upload?name=..%2fa.mp4", content=b"1").status_code == 404
    for content in (b"1" * 11, (piece for piece in [b"123456", b"789012"])):  # with a length, and without
        assert local.post("/upload?name=a.mp4", content=content).status_code == 413


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept, told = [], []

    async def receive(request):
        try:
            async with upload(request, "a.mp4", (".mp4",), 1000) as path:
                kept.append(path)
        except ProspectError as error:
            told.append(str(error))
            raise
        return answer({})

    with served(lambda address: make_app([post("/upload", receive)], address)) as url:
        host, port = url.removeprefix("http://").rstrip("/").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                f"POST /upload HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 900\r\n\r\n".encode() + b"x" * 400
            )
        wait_for(lambda: told)
    assert told == ["a.mp4: broke off after 400 bytes; nothing was kept"]
    assert kept == [] and list(tmp_path.iterdir()) == []


def test_a_file_is_inside_its_root_links_followed(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.txt").write_text("a")
    (tmp_path / "secret.txt").write_text("s")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    assert inside(root, "a.txt") == (root / "a.txt").resolve()
    for name in ("../secret.txt", "link.txt", str(tmp_path / "secret.txt"), "none.txt", "a\0b"):
        with pytest.raises(HTTPException):
            inside(root, name)


def test_a_frame_is_a_jpeg_at_the_height_that_is_asked_for(tmp_path):
    write_frames(tmp_path / "v.arrow", 3)

    async def one(request):
        return await frame(request, open_frames(tmp_path / "v.arrow"))

    local = client(get("/frames/{index}.jpg", one))
    answered = local.get("/frames/2.jpg?h=16")
    assert answered.headers["content-type"] == "image/jpeg" and "max-age" in answered.headers["cache-control"]
    assert local.get("/frames/3.jpg").json()["error"].endswith("found frame index 3, expected 0..2")
    assert local.get("/frames/x.jpg").status_code == 400
    assert local.get("/frames/1.jpg?h=99999").status_code == 400
