"""An HTTP server of a folder that can be told to fail, to stall, and to say less than servers do."""

import datetime
import ipaddress
import ssl
import threading
from collections import Counter, defaultdict
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server:
    """Serves `folder` at `url`; `faults[name]` holds what its next requests get: a status, "cut" (half the body),
    "stall" (half, and then nothing) or "endless"; `faults["HEAD name"]` those of its next HEADs."""

    def __init__(self, folder: Path, certificate: Path | None = None, sized: bool = True) -> None:
        """`certificate`: a PEM file of certificate and key; with it the server speaks TLS. `sized`: whether it says how
        long a file is."""
        self.sized = sized
        self.queries: set[str] = set()
        self.users: set[str | None] = set()
        self.stopped = threading.Event()
        self.faults: dict[str, list[int | str]] = defaultdict(list)
        self.requests: Counter[str] = Counter()  # GETs by name
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self, directory=str(folder)))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.url = self.url.replace("http://", "https://")
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, owner: Server, *args, **kwargs) -> None:
        self.owner = owner
        super().__init__(*args, **kwargs)

    def send_header(self, keyword: str, value: str) -> None:
        if keyword != "Content-Length" or self.owner.sized:
            super().send_header(keyword, value)

    def do_HEAD(self) -> None:
        fault = self._fault("HEAD ")
        if fault == "stall":
            self.owner.stopped.wait()
        else:
            super().do_HEAD()

    def _fault(self, method: str) -> int | str | None:
        path, _, query = self.path.partition("?")
        self.owner.queries.add(query)
        self.owner.users.add(self.headers["Authorization"])
        name = method + path.rsplit("/", 1)[-1]
        self.owner.requests[name] += 1
        return self.owner.faults[name].pop(0) if self.owner.faults[name] else None

    def do_GET(self) -> None:
        fault = self._fault("")
        if isinstance(fault, int):
            self.send_error(fault)
        elif fault == "endless":
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while not self.owner.stopped.is_set():
                    self.wfile.write(b"x" * 100_000)
        elif fault in ("cut", "stall"):
            data = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            if fault == "stall":
                self.owner.stopped.wait()
            self.connection.close()
        else:
            super().do_GET()

    def log_message(self, *args) -> None:
        pass


def make_certificate(path: Path) -> Path:
    """A PEM file of a key and a certificate that it signed for itself, for 127.0.0.1."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(pem, form, serialization.NoEncryption())
    path.write_bytes(certificate.public_bytes(pem) + private)
    return path
