import pytest
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from prospect.web.answers import answer, get, make_app, post
from prospect.web.server import Address

LOCAL = Address("127.0.0.1", 8000, None)
OPEN = Address("0.0.0.0", 8000, "secret-token")


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


def client(address: Address, base_url: str = "http://127.0.0.1:8000") -> TestClient:
    routes = [
        get("/", lambda request: answer({"q": request.url.query})),
        post("/change", lambda request: answer({})),
        WebSocketRoute("/talk", talk),
    ]
    return TestClient(make_app(routes, address), base_url=base_url, follow_redirects=False)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "127.0.0.1"])
def test_names_of_this_machine_are_answered(host):
    assert client(LOCAL).get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example:8000", "127.0.0.1.evil.example", "", "localhost.evil.example", "[", "evil@localhost.x"]
)
def test_another_name_is_turned_away_as_dns_rebinding_makes_it(host):
    answered = client(LOCAL).get("/", headers={"Host": host})
    assert answered.status_code == 403 and "open the one that prospect printed" in answered.text


def test_only_our_own_pages_change_something():
    own, other = "http://127.0.0.1:8000", "http://evil.example"
    local = client(LOCAL)
    assert local.post("/change").status_code == 200  # no browser
    assert local.post("/change", headers={"Origin": own, "Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert local.post("/change", headers={"Origin": other}).status_code == 403
    assert local.post("/change", headers={"Origin": "null"}).status_code == 403
    assert local.post("/change", headers={"Origin": "http://127.0.0.1:9"}).status_code == 403
    assert local.post("/change", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_other_sites_get_no_picture_but_a_link_may_lead_here():
    local = client(LOCAL)
    assert local.get("/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}).status_code == 403
    assert local.get("/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status_code == 200


def test_a_socket_is_opened_by_our_own_pages_alone():
    with client(LOCAL).websocket_connect(
        "/talk", headers={"Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:8000"}
    ) as own:
        assert own.receive_text() == "hello"
    with (
        pytest.raises(WebSocketDisconnect),
        client(LOCAL).websocket_connect("/talk", headers={"Host": "127.0.0.1:8000", "Origin": "http://evil.example"}),
    ):
        pass


def test_where_others_reach_it_the_token_comes_once_in_the_address_and_then_as_a_cookie():
    far = client(OPEN, "http://machine.example:8000")
    assert far.get("/").status_code == 403
    assert far.get("/", params={"token": "secret-tokeX"}).status_code == 403
    assert far.post("/change").status_code == 403
    with pytest.raises(WebSocketDisconnect), far.websocket_connect("/talk"):
        pass
    first = far.get("/", params={"token": "secret-token", "clip": "a b"})
    assert (first.status_code, first.headers["location"]) == (303, "/?clip=a+b")
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert far.get("/?clip=a+b").json() == {"q": "clip=a+b"}
    assert far.post("/change").status_code == 200
    assert far.post("/change", headers={"Origin": "http://evil.example"}).status_code == 403


def test_a_token_leads_to_no_other_host():
    far = client(OPEN, "http://machine.example:8000")
    assert (
        far.get("http://machine.example:8000//evil.example/?token=secret-token").headers["location"] == "/evil.example/"
    )


def test_every_answer_says_what_a_browser_may_do_with_it():
    for answered in (
        client(LOCAL).get("/"),
        client(LOCAL).get("/static/theme.css"),
        client(LOCAL).get("/none"),
        client(OPEN).get("/"),
    ):
        policy = answered.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'") and "unsafe" not in policy and "script-src" not in policy
        assert answered.headers["x-content-type-options"] == "nosniff"
        assert answered.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path", ["/static/../html.py", "/static/..%2fhtml.py", "/static/%2e%2e/html.py", "/static//etc/passwd"]
)
def test_no_file_outside_static(path):
    assert client(LOCAL).get(path).status_code == 404
