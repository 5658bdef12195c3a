"""An HTTP server of a folder that can be told to fail."""

import threading
from collections import Counter, defaultdict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server:
    """Serves `folder` at `url`; `faults[name]` holds what its next requests get: a status, or "cut" (half the body)."""

    def __init__(self, folder: Path) -> None:
        self.faults: dict[str, list[int | str]] = defaultdict(list)
        self.requests: Counter[str] = Counter()  # GETs by name
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self, directory=str(folder)))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, owner: Server, *args, **kwargs) -> None:
        self.owner = owner
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        self.owner.requests[name] += 1
        fault = self.owner.faults[name].pop(0) if self.owner.faults[name] else None
        if isinstance(fault, int):
            self.send_error(fault)
        elif fault == "cut":
            data = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.connection.close()
        else:
            super().do_GET()

    def do_HEAD(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        if self.owner.faults[f"HEAD {name}"]:
            self.send_error(int(self.owner.faults[f"HEAD {name}"].pop(0)))
        else:
            super().do_HEAD()

    def log_message(self, *args) -> None:
        pass
