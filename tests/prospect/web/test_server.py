import socket

import pytest

from pipeline.errors import ProspectError
from prospect.web.server import bind, is_local


def test_a_port_that_is_taken_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ProspectError, match=f"port {port} is taken, perhaps by another prospect; pass --port"):
            bind("127.0.0.1", port)


def test_a_host_that_is_not_ours_is_one_sentence():
    with pytest.raises(ProspectError, match=r"--host 192\.0\.2\.1: .*expected an address of this machine"):
        bind("192.0.2.1", 0)


def test_only_a_host_that_others_reach_has_a_token():
    listening, address = bind("127.0.0.1", 0)
    listening.close()
    assert address.token is None and address.url == f"http://127.0.0.1:{address.port}/"
    listening, address = bind("0.0.0.0", 0)
    listening.close()
    assert len(address.token) >= 32 and address.url.endswith(f"/?token={address.token}")


def test_what_is_local():
    assert [name for name in ("localhost", "127.0.0.1", "127.8.0.1", "::1", "0.0.0.0", "::", "10.0.0.1", "machine") if is_local(name)] == [
        "localhost", "127.0.0.1", "127.8.0.1", "::1"
    ]  # fmt: skip
