"""The review page's routes: what is there, one entry, its changes, its frames, a new video."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from pipeline.annotations.clips import SPLITS
from pipeline.annotations.edits import Draft, draft_of
from pipeline.errors import ProspectError
from prospect.web import answers
from prospect.web.answers import answer, body, get, post
from prospect.web.review.changes import change_of
from prospect.web.review.documents import AnnotationFile, Documents
from prospect.web.review.videos import MOST_BYTES, SUFFIXES, add_video, refuse_known
from prospect.web.review.views import checked, frames_of, title_of, view_of
from prospect.web.server import Address

if TYPE_CHECKING:
    from prospect.web.review.disagreements import Predictions

ENTRY = "/api/entry/{dataset}/{file}/{index}"
MOST_CHECKED = 3000  # entries of a file that are checked for its list; of a larger one each is when it is opened


class Review:
    """The routes over some documents, with predictions beside them or without."""

    def __init__(self, documents: Documents, predictions: "Predictions | None" = None) -> None:
        self.documents, self.predictions = documents, predictions

    @property
    def routes(self) -> list[BaseRoute]:
        return [
            get("/", self.page),
            get("/api/files/{dataset}/{file}", self.list_file),
            post("/api/files/{dataset}/{file}/reload", self.reload),
            get(ENTRY, self.show),
            post(ENTRY + "/change", self.change),
            post(ENTRY + "/settle", self.settle),
            post(ENTRY + "/undo", self.undo),
            post(ENTRY + "/redo", self.redo),
            post(ENTRY + "/save", self.save),
            get("/frames/{dataset}/{file}/{index:int}/{frame}.jpg", self.frame),
            post("/api/videos/{dataset}", self.video),
        ]

    def page(self, request: Request) -> Response:
        files = [{"dataset": file.dataset, "name": file.name, "kind": file.kind} for file in self.documents.files]
        about = {
            "files": files,
            "has_predictions": self.predictions is not None,
            "splits": SPLITS,
            "video_types": SUFFIXES,
            "most_bytes": MOST_BYTES,
        }
        return answers.page(
            "Review",
            "review/main.js",
            ["frames.css", "timeline.css", "desk.css", "review/review.css"],
            [("about", about)],
        )

    def list_file(self, request: Request) -> Response:
        file = self._file(request)
        is_checked = len(file.places) <= MOST_CHECKED
        return answer({"entries": [self._listed(file, index, is_checked) for index in range(len(file.places))]})

    def show(self, request: Request) -> Response:
        return answer(self._view(*self._entry(request)))

    async def change(self, request: Request) -> Response:
        asked = await body(request)
        return await run_in_threadpool(self._change, request, asked)

    async def settle(self, request: Request) -> Response:
        asked = await body(request)
        return await run_in_threadpool(self._settle, request, asked)

    async def undo(self, request: Request) -> Response:
        return await run_in_threadpool(self._step, request, await body(request), -1)

    async def redo(self, request: Request) -> Response:
        return await run_in_threadpool(self._step, request, await body(request), 1)

    async def save(self, request: Request) -> Response:
        asked = await body(request)
        file, index = self._entry(request)
        await run_in_threadpool(self.documents.save, file, index, _revision(asked))
        return await run_in_threadpool(lambda: answer(self._view(file, index)))

    async def reload(self, request: Request) -> Response:
        asked = await body(request)
        drop = asked.get("drop")
        file = self._file(request)
        wanted = (drop, 0) if isinstance(drop, int) else None
        await run_in_threadpool(self.documents.reload, file, wanted)
        return answer({})

    async def frame(self, request: Request) -> Response:
        file, index = self._entry(request)
        frames = await run_in_threadpool(
            lambda: frames_of(self.documents, file, self.documents.entry(file, index).draft.raw)
        )
        return await answers.frame(request, frames, "frame")

    async def video(self, request: Request) -> Response:
        dataset, given = answers.plain(request, "dataset"), answers.plain(request, "name")
        split = request.query_params.get("split", "train")
        if split not in SPLITS or dataset not in {file.dataset for file in self.documents.files}:
            raise ProspectError(f"{dataset}/{split}: no such dataset and split here")
        name = Path(given).stem
        refuse_known(self.documents, dataset, name)
        async with answers.upload(request, given, SUFFIXES, MOST_BYTES) as path:
            file, index = await run_in_threadpool(add_video, self.documents, dataset, split, name, path)
        return answer({"dataset": dataset, "file": file, "index": index})

    def _change(self, request: Request, asked: dict[str, Any]) -> Response:
        file, index = self._entry(request)
        self.documents.change(file, index, _revision(asked), change_of(file.kind, asked.get("change")))
        return answer(self._view(file, index))

    def _settle(self, request: Request, asked: dict[str, Any]) -> Response:
        """Settle the disagreement of a number; the revision says that it is the one which the page showed."""
        file, index = self._entry(request)
        number, action = asked.get("number"), asked.get("action")

        def make(draft: Draft) -> Draft:
            clip, _ = checked(self.documents, file, draft, "rows")
            if clip is None or self.predictions is None:
                raise ProspectError("there is no disagreement to settle; look again")
            return self.predictions.settle(draft, clip, number, action)

        self.documents.change(file, index, _revision(asked), make)
        return answer(self._view(file, index))

    def _step(self, request: Request, asked: dict[str, Any], by: Any) -> Response:
        file, index = self._entry(request)
        self.documents.step(file, index, _revision(asked), by)
        return answer(self._view(file, index))

    def _file(self, request: Request) -> AnnotationFile:
        return self.documents.file(answers.plain(request, "dataset"), answers.plain(request, "file"))

    def _entry(self, request: Request) -> tuple[AnnotationFile, int]:
        index = answers.number(request, "index")
        assert index is not None
        file = self._file(request)
        self.documents.entry(file, index)
        return file, index

    def _view(self, file: AnnotationFile, index: int) -> dict[str, Any]:
        entry = self.documents.entry(file, index)
        return view_of(self.documents, file, index, entry) | self._compared(file, entry.draft)

    def _compared(self, file: AnnotationFile, draft: Draft) -> dict[str, Any]:
        """The prediction of a clip, where there is one, and how it disagrees with the clip as it is now."""
        nothing: dict[str, Any] = {"ghosts": [], "disagreements": [], "compared": ""}
        if self.predictions is None or file.kind != "clips":
            return nothing
        clip, _ = checked(self.documents, file, draft, "rows")
        if clip is None:
            return nothing | {
                "compared": "The clip has mistakes; once they are gone, it is held against the prediction."
            }
        try:
            compared = self.predictions.compared(clip)
        except ProspectError as error:
            return nothing | {"compared": str(error)}
        return nothing | (compared or {"compared": "There is no prediction of this clip."})

    def _listed(self, file: AnnotationFile, index: int, is_checked: bool) -> dict[str, Any]:
        entry = file.open.get(index)
        raw = entry.draft.value if entry else file.raw(index)
        about: dict[str, Any] = {
            "index": index,
            "title": title_of(file.kind, raw),
            "is_changed": entry.is_changed if entry else False,
        }
        if not isinstance(raw, dict):
            return about | {"num_problems": 1, "worst": 0}
        items = raw.get("conversation" if file.kind == "clips" else "spans")
        about["num_items"] = len(items) if isinstance(items, list) else 0
        if is_checked and file.kind == "clips":
            draft = self.documents.entry(file, index).draft if entry else draft_of(raw)
            about["num_problems"] = len(checked(self.documents, file, draft, "rows")[1])
            found = self._compared(file, draft)["disagreements"]
            about |= {"num_disagreements": len(found), "worst": found[0]["badness"] if found else 0}
        return about


def make_review(documents: Documents, predictions: "Predictions | None", address: Address) -> ASGIApp:
    """Give the review's application."""
    return answers.make_app(Review(documents, predictions).routes, address)


def _revision(asked: dict[str, Any]) -> int:
    revision = asked.get("revision")
    return revision if type(revision) is int else -1
