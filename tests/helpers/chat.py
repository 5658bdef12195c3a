"""A server of chat completions, as OpenAI's API has them, that answers as it is told to."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], str]  # a request's body -> the text of the answer


class Chat:
    """Answers at `url`. `faults` holds what its next requests get: a status, (status, Retry-After), "html", "half" (half
    of the body is sent), "half json" (all of a body that is half a JSON), "nothing" (the connection ends), "stall" (it
    waits for `stop`), "redirect", "empty" (no content), ("text", TEXT): that as the answer, or bytes: those as the body. Then `answer` is asked.
    """

    def __init__(self, answer: Answer, forms: tuple[str, ...] = ("json_schema", "json_object", "none")) -> None:
        """`forms`: those of response_format that it takes; others get 400."""
        self.answer, self.forms = answer, forms
        self.faults: list[Any] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                chat.handle(self)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        with self.lock:
            self.bodies.append(body)
            self.keys.append(request.headers["Authorization"])
            fault = self.faults.pop(0) if self.faults else None
        form = body.get("response_format", {}).get("type", "none")
        headers: dict[str, str] = {}
        status, data = 200, b""
        match fault:
            case int():
                status, data = fault, b'{"error": {"message": "no"}}'
            case (int() as status, after):
                headers["Retry-After"] = str(after)
            case "html":
                data = b"<!doctype html><title>Welcome</title>"
            case "half json":
                data = self.completion("ok")[:20]
            case "redirect":
                status, headers["Location"] = 302, f"{self.url}/elsewhere"
            case "nothing":
                request.connection.close()
                return
            case "stall":
                self.stopped.wait()
                return
            case "empty":
                data = self.completion(None)
            case bytes():
                data = fault
            case ("text", text):
                data = self.completion(text)
            case _ if form not in self.forms:
                status, data = 400, b'{"error": {"message": "response_format is not supported"}}'
            case _:
                data = self.completion(self.answer(body))
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data[: len(data) // 2] if fault == "half" else data)

    @staticmethod
    def completion(text: str | None) -> bytes:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        return json.dumps({"object": "chat.completion", "choices": [choice]}).encode()


def answer_by_words(body: dict[str, Any]) -> str:
    """The right answer where a block's text is a step's name: that step; and none for others."""
    question = body["messages"][1]["content"]
    steps, _, blocks = question.partition("Blocks:\n")
    ids = {name: step for step, _, name in (line.partition(": ") for line in steps.splitlines())}
    entries = [line.partition(": ") for line in blocks.splitlines()]
    return json.dumps(
        {"blocks": [{"block": int(number), "step": ids.get(text), "kind": "done"} for number, _, text in entries]}
    )


def verdict(overall: int = 4, analysis: str = "It does well.", **scores: int) -> str:
    """A judge's answer; axes that are not named have the score of `overall`."""
    axes = ("correctness", "promptness", "efficiency")
    return json.dumps({"analysis": analysis, **dict.fromkeys(axes, overall), "overall": overall, **scores})
