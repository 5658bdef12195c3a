"""The live page's routes: the page, its WebSocket, an upload of a video, and a look at a file of steps."""

import shutil
from dataclasses import asdict
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.types import ASGIApp

from prospect.stream.task import Task, steps_in
from prospect.web import answers
from prospect.web.answers import answer, body, get, plain, post
from prospect.web.live.hub import MOST_PICTURE, Hub
from prospect.web.live.session import MOST_LINE
from prospect.web.review.videos import MOST_BYTES, SUFFIXES
from prospect.web.server import Address

TYPES = (*SUFFIXES, ".arrow")


class Live:
    """The routes over a hub. `task`: what the page begins with; its steps may be changed there."""

    def __init__(self, hub: Hub, task: Task) -> None:
        self.hub, self.task = hub, task

    @property
    def routes(self) -> list[BaseRoute]:
        return [
            get("/", self.page),
            WebSocketRoute("/socket", self.hub.attend),
            post("/api/video", self.video),
            post("/api/steps", self.steps),
        ]

    def page(self, request: Request) -> Response:
        session = self.hub.session
        about = {
            "checkpoint": session.about.checkpoint,
            "fps": session.about.fps,
            "trained_fps": session.about.trained_fps,
            "tracks": session.streamer.settings.memory == "dst",
            "size": session.streamer.model.config.vision_config.image_size,
            "steps": [asdict(step) for step in self.task.steps],
            "out": str(session.about.out),
            "types": TYPES,
            "most_bytes": MOST_BYTES,
            "most_picture": MOST_PICTURE,
            "most_line": MOST_LINE,
        }
        styles = ["frames.css", "timeline.css", "live/live.css"]
        return answers.page("Live", "live/main.js", styles, [("about", about)])

    async def video(self, request: Request) -> Response:
        name = plain(request, "name")
        place = self.hub.place_of(request.query_params.get("key", ""), Path(name).suffix.lower())
        async with answers.upload(request, name, TYPES, MOST_BYTES) as path:
            await run_in_threadpool(shutil.move, path, place)
        self.hub.video = (place, name)
        return answer({"name": name})

    async def steps(self, request: Request) -> Response:
        asked = await body(request)
        name = str(asked.get("name", ""))
        task = steps_in(str(asked.get("text", "")), Path(name).suffix.lower(), name or "the steps")
        return answer({"steps": [asdict(step) for step in task.steps]})


def make_live(hub: Hub, task: Task, address: Address) -> ASGIApp:
    """Give the live page's application."""
    return answers.make_app(Live(hub, task).routes, address)
