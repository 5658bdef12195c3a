"""A folder that grows, a URL of a server here, a camera that is not there."""

import socket
import threading
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.errors import ProspectError
from pipeline.video.settings import Settings
from pipeline.video.source import Place
from prospect.stream import endless
from prospect.stream.endless import SourceLost, _growing, check_source, is_endless, open_source, told_source
from prospect.stream.sources import frames_of, video_frames
from tests.helpers.fakes import jpeg
from tests.helpers.servers import Server
from tests.helpers.videos import film, video


class Folder:
    """A folder in which something happens whenever its reader sleeps; a clock that goes on by a second then."""

    def __init__(self, path: Path, *happenings) -> None:
        self.path, self.happenings, self.now = path, list(happenings), 0.0

    def sleep(self, seconds: float) -> None:
        self.now += 1
        if self.happenings:
            self.happenings.pop(0)(self.path)

    def read(self, first=0, last=None, idle_s=3.0):
        return _growing(self.path, idle_s, first, last, clock=lambda: self.now, sleep=self.sleep)


def adds(name, data=None):
    return lambda folder: (folder / name).write_bytes(jpeg(0) if data is None else data)


def nothing(folder):
    pass


def names(frames):
    return [Path(frame.where.partition(",")[0]).name for frame in frames]


def test_new_images_come_in_natural_order_until_none_came_for_so_long(tmp_path):
    folder = Folder(tmp_path, adds("f9.jpg"), nothing, nothing, adds("f10.jpg"), adds("f1.jpg"), adds("notes.txt"))
    adds("f2.jpg")(tmp_path)
    frames = list(folder.read())
    assert names(frames) == ["f2.jpg", "f9.jpg", "f10.jpg"], "f1.jpg came too late"
    assert frames[2].where == f"{tmp_path}/f10.jpg, frame 2" and frames[2].data == jpeg(0)
    assert folder.now == 4 + 3, "three seconds after the last"


def test_an_image_that_is_being_written_is_waited_for(tmp_path):
    whole = jpeg(1)
    adds("f1.jpg", whole[: len(whole) // 2])(tmp_path)
    folder = Folder(tmp_path, adds("f2.jpg"), adds("f1.jpg", whole))
    frames = list(folder.read())
    assert names(frames) == ["f1.jpg", "f2.jpg"] and frames[0].data == whole
    adds("f3.jpg", b"")(tmp_path)
    with pytest.raises(SourceLost, match=r"f3\.jpg: is no whole image after 3 s, expected \.jpg, \.jpeg, \.png"):
        list(Folder(tmp_path).read())


def test_frames_asked_for_of_a_growing_folder(tmp_path):
    folder = Folder(tmp_path, adds("f1.jpg"), adds("f2.jpg"), adds("f3.jpg"))
    adds("f0.jpg")(tmp_path)
    assert names(folder.read(first=1, last=2)) == ["f1.jpg", "f2.jpg"]
    assert folder.now == 2, "it ends with the last"
    with pytest.raises(ProspectError, match="found 3 images within 3 s, expected more than 5"):
        list(Folder(tmp_path).read(first=5))


def test_a_consumer_that_is_slow_does_not_use_up_the_wait(tmp_path):
    folder = Folder(tmp_path, adds("f2.jpg"))
    adds("f1.jpg")(tmp_path)
    frames = folder.read()
    next(frames)
    folder.now += 100
    assert names(frames) == ["f2.jpg"]


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    yield server
    server.stop()


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts"])
def test_a_url_gives_the_frames_of_the_file(tmp_path, server, name):
    path = video(tmp_path / name, 4)
    here = list(frames_of(path, 2, 32, 0, None))
    there = list(open_source(f"{server.url}/{name}", 2, 32, 0, None))
    assert [frame.data for frame in there] == [frame.data for frame in here] and len(there) == 8
    assert there[3].where == f"{server.url}/{name} frame 3"
    assert [frame.data for frame in open_source(f"{server.url}/{name}", 2, 32, 2, 3)] == [f.data for f in here[2:4]]


def test_a_lost_connection_is_told_after_the_frames_that_came(tmp_path, server):
    """Matroska states 30 s; half of it comes."""
    film(tmp_path / "v.mkv", [Fraction(i, 10) for i in range(300)])
    server.faults["v.mkv"] = ["cut"] * 100
    came = []
    with pytest.raises(SourceLost, match=r"v\.mkv: breaks off after frame \d+ \(.+\), expected more of it$"):
        for frame in open_source(f"{server.url}/v.mkv", 2, 32, 0, None):
            came.append(frame)
    assert 5 < len(came) < 60


@pytest.mark.parametrize(
    ("url", "reason"),
    [("http://127.0.0.1:1/v.mp4", "Connection refused"), ("rtsp://127.0.0.1:1/v", "Connection refused")],
)
def test_a_server_that_is_not_there_is_told_at_once(url, reason):
    with pytest.raises(
        SourceLost, match=rf"^{url}: breaks off at its beginning \(cannot be read: {reason}\), expected more of it$"
    ):
        next(open_source(url, 2, 32, 0, None))


def test_a_page_that_is_not_there_is_told_source(server):
    with pytest.raises(SourceLost, match=r"v\.mp4: breaks off at its beginning \(.*404 Not Found\)"):
        next(open_source(f"{server.url}/v.mp4", 2, 32, 0, None))


def test_a_server_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(endless, "PATIENCE_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as quiet:
        url = f"http://127.0.0.1:{quiet.getsockname()[1]}/v.mp4"
        with pytest.raises(SourceLost, match=r"v\.mp4: breaks off at its beginning \(nothing came for 0\.5 s\)"):
            next(open_source(url, 2, 32, 0, None))


def test_a_server_that_falls_silent_is_given_up(monkeypatch, tmp_path):
    """After half of a stream of transport packets, without a length."""
    monkeypatch.setattr(endless, "PATIENCE_S", 2.0)
    data = film(tmp_path / "v.ts", [Fraction(i, 10) for i in range(300)]).read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as half:
        done = threading.Event()

        def serve():
            connection, _ = half.accept()
            connection.recv(4096)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + data[: len(data) // 2])
            done.wait(60)
            connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        came = []
        with pytest.raises(SourceLost, match=r"breaks off after frame \d+ \(nothing came for 2 s\), expected more"):
            for frame in open_source(f"http://127.0.0.1:{half.getsockname()[1]}/v.ts", 2, 32, 0, None):
                came.append(frame)
        done.set()
        thread.join()
    assert 5 < len(came) < 60


@pytest.mark.parametrize("source", ["/dev/video97", "97"])
def test_a_camera_that_is_not_there_is_told_source(source):
    with pytest.raises(
        SourceLost, match=rf"^{source}: breaks off at its beginning \(cannot be read: No such file or directory\)"
    ):
        next(open_source(source, 2, 32, 0, None))


def test_a_device_without_an_end_gives_the_frames_asked_for():
    """FFmpeg's test picture, in the place of a camera: a device, opened by the format's name."""
    camera = Place("testsrc=rate=10:size=128x64", format="lavfi", patience_s=5)
    frames = list(video_frames("camera", camera, Settings(2, 32), 1, 4))
    assert [frame.where for frame in frames] == [f"camera frame {number}" for number in range(1, 5)]
    assert {frame.aspect for frame in frames} == {2.0} and len({frame.data for frame in frames}) == 4


def test_sources_are_checked_before_they_are_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source in ("/dev/video0", "0", "rtsp://x/y", "https://x/y.mp4"):
        check_source(source)
        assert is_endless(source, None)
    (tmp_path / "0").mkdir()
    assert not is_endless("0", None) and is_endless("0", 5.0), "a folder of this name"
    check_source("0", 5.0)
    with pytest.raises(ProspectError, match=r"^nowhere: no such file or folder, expected a video, an \.arrow file, a"):
        check_source("nowhere")
    with pytest.raises(ProspectError, match="found a URL of 'srt', expected one of http, https, rtsp, rtmp"):
        check_source("srt://x")
    with pytest.raises(ProspectError, match="--follow 5: found rtsp://x/y, expected a folder of images"):
        check_source("rtsp://x/y", 5.0)
    (tmp_path / "v.mp4").write_text("")
    with pytest.raises(ProspectError, match=r"--follow 5: found a file, v\.mp4, expected a folder of images"):
        check_source("v.mp4", 5.0)


def test_a_password_is_not_told_source():
    assert told_source("rtsp://me:se:cret@cam/1?a=b:c@d") == "rtsp://me:***@cam/1?a=b:c@d"
    assert told_source("http://x/a:b@c") == "http://x/a:b@c" and told_source(Path("a:b@c.mp4")) == "a:b@c.mp4"
    with pytest.raises(SourceLost, match=r"^http://me:\*\*\*@127\.0\.0\.1:1/v\.mp4: breaks off"):
        next(open_source("http://me:secret@127.0.0.1:1/v.mp4", 2, 32, 0, None))
