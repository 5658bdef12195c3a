"""A hub for tests: its cache laid out by hand, and a server that answers as the hub does."""

import hashlib
import json
import shutil
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


def put_in_cache(cache: Path, hub_id: str, commit: str, checkpoint: Path, *, branch: str = "main") -> Path:
    """Lay out `checkpoint` as a snapshot of the hub's cache, which `branch` names; its folder."""
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    shutil.copytree(checkpoint, snapshot)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / branch).write_text(commit)
    return snapshot


class Hub:
    """Serves `repositories`: id -> (commit of main, folder of its files)."""

    def __init__(self, repositories: dict[str, tuple[str, Path]]) -> None:
        self.repositories = repositories
        self.asked: Counter[str] = Counter()  # paths
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        self.asked[path] += 1
        for hub_id, (commit, folder) in self.repositories.items():
            files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
            api = f"/api/models/{hub_id}"
            if path in (api, f"{api}/revision/main", f"{api}/revision/{commit}"):
                return _send(request, json.dumps({"id": hub_id, "sha": commit, "siblings": []}).encode())
            if path == f"{api}/tree/{commit}":
                tree = [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in files.items()
                ]
                return _send(request, json.dumps(tree).encode())
            name = path.removeprefix(f"/{hub_id}/resolve/{commit}/")
            if name in files:
                headers = {"ETag": f'"{hashlib.sha1(files[name]).hexdigest()}"', "X-Repo-Commit": commit}
                return _send(request, files[name], headers)
        headers = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
        return _send(request, b"{}", headers, status=404)


def _send(
    request: BaseHTTPRequestHandler, body: bytes, headers: dict[str, str] | None = None, status: int = 200
) -> None:
    request.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)
