"""The guard's rules, without a server."""

from __future__ import annotations

import httpx
import pytest
from fastapi import Body, FastAPI, File, Request, UploadFile
from helpers_coroutines import run_coroutine
from swin_umamba.errors import InputError

from monailabel_app.security import Guard, Rules, is_loopback, page_after_login, token_of

TOKEN = "0123456789abcdef"


def test_rules_of_the_environment(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    rules = Rules.from_environment(
        {
            "SWIN_UMAMBA_TOKEN_FILE": str(file),
            "SWIN_UMAMBA_CORS_ORIGINS": "https://a.example, http://b:81/",
            "SWIN_UMAMBA_UPLOAD_LIMIT_MB": "3",
        }
    )
    assert rules == Rules(token=TOKEN, origins=("https://a.example", "http://b:81"), upload_limit=3 * 2**20)
    assert Rules.from_environment({}) == Rules()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SWIN_UMAMBA_TOKEN", "short", "16 or more"),
        ("SWIN_UMAMBA_TOKEN", "with space in the middle", "without spaces"),
        ("SWIN_UMAMBA_TOKEN_FILE", "/nowhere", "cannot be read"),
        ("SWIN_UMAMBA_UPLOAD_LIMIT_MB", "-1", "legal"),
        ("SWIN_UMAMBA_CORS_ORIGINS", "*", "legal"),
        ("SWIN_UMAMBA_CORS_ORIGINS", "viewer.example.org", "legal"),
    ],
)
def test_illegal_rules(name, value, words):
    with pytest.raises(InputError, match=words):
        Rules.from_environment({name: value})


def test_an_empty_token_file_is_no_token(tmp_path):
    (tmp_path / "token").write_text("\n")
    with pytest.raises(InputError, match="empty"):
        Rules.from_environment({"SWIN_UMAMBA_TOKEN_FILE": str(tmp_path / "token")})


def test_tokens():
    assert Rules(token=TOKEN).accepts(TOKEN)
    for other in (None, "", TOKEN[:-1], TOKEN + "0", "ä"):
        assert not Rules(token=TOKEN).accepts(other)
    assert not Rules().accepts(None)


def test_where_tokens_come_from():
    assert token_of({"authorization": f"Bearer {TOKEN}"}) == TOKEN
    assert token_of({"cookie": f"a=1; swin_umamba_token={TOKEN}"}) == TOKEN
    assert token_of({"authorization": "Basic abc", "cookie": "a=1"}) is None
    assert token_of({}) is None


@pytest.mark.parametrize(("host", "own"), [("127.0.0.1", True), ("::1", True), ("10.0.0.1", False), ("0.0.0.0", False)])
def test_loopback(host, own):
    assert is_loopback(host) is own


def ask(rules=None, client="127.0.0.1", **headers):
    """Send a request through the guard to an app that answers 200, and return the status."""
    sent = []

    async def behind(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b""}

    fields = [(name.encode(), value.encode("latin-1")) for name, value in {"host": "127.0.0.1:8000", **headers}.items()]
    scope = {"type": "http", "method": "GET", "path": "/info/", "headers": fields, "client": (client, 1)}
    run_coroutine(Guard(behind, rules or Rules())(scope, receive, send))
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost"}, 200),
        ({"host": "[::1]:8000"}, 200),
        ({"host": "evil.example:8000"}, 403),  # a name that was made to point at this machine
        ({"host": ""}, 403),
        ({"host": "[::"}, 403),
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"origin": "http://127.0.0.1:9000"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),  # a page in a sandbox
        ({"origin": "http://[x"}, 403),
        ({"content-length": "many"}, 413),
    ],
)
def test_web_pages_of_others_stay_out_without_a_token(headers, status):
    assert ask(**headers) == status


def test_another_machine_needs_the_token():
    assert ask(client="10.0.0.1") == 403
    rules = Rules(token=TOKEN, origins=("https://viewer.example",))
    assert ask(rules, client="10.0.0.1", host="server.example") == 401
    bearer = {"authorization": f"bearer {TOKEN}", "host": "server.example"}
    assert ask(rules, client="10.0.0.1", **bearer) == 200
    assert ask(rules, client="10.0.0.1", origin="https://viewer.example", **bearer) == 200
    assert ask(rules, client="10.0.0.1", origin="https://server.example.evil", **bearer) == 403


@pytest.mark.parametrize(
    ("wanted", "page"),
    [
        ("/ohif/segmentation?StudyInstanceUIDs=1.2", "/ohif/segmentation?StudyInstanceUIDs=1.2"),
        ("", "/ohif/"),
        ("https://evil.example/ohif/", "/ohif/"),
        ("//evil.example/", "/ohif/"),
        ("/ohif/\\evil", "/ohif/"),
        ("/ohif/\r\nSet-Cookie: a=b", "/ohif/"),
        ("/model/x", "/ohif/"),
    ],
)
def test_log_in_leads_to_pages_of_this_server_alone(wanted, page):
    assert page_after_login(wanted) == page


@pytest.mark.parametrize(
    ("method", "path", "accept", "status"),
    [
        ("GET", "/ohif/segmentation", "text/html,*/*", 303),
        ("GET", "/", "text/html", 303),
        ("GET", "/ohif/app.js", "*/*", 401),
        ("GET", "/viewer/", "text/html", 401),
        ("POST", "/ohif/", "text/html", 401),
    ],
)
def test_only_a_persons_page_leads_to_the_log_in(method, path, accept, status):
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": b"a=1&b=2", "client": ("10.0.0.9", 1)}
    scope["headers"] = [(b"accept", accept.encode()), (b"host", b"here")]
    run_coroutine(Guard(None, Rules(token=TOKEN))(scope, None, send))
    assert sent[0]["status"] == status
    if status == 303:
        place = dict(sent[0]["headers"])[b"location"].decode()
        assert place.startswith("/login?next=%2F")
        assert place.endswith("%3Fa%3D1%26b%3D2")


def app_of_bodies():
    """Return an app that takes a body in each way that the server does, and tells how much it got."""
    api = FastAPI()

    @api.post("/form")
    def form(file: UploadFile = File(...)):
        return len(file.file.read())

    @api.post("/json")
    def plain(body: list = Body(...)):
        return len(body)

    @api.post("/stream")
    async def stream(request: Request):
        return sum([len(part) async for part in request.stream()])

    api.add_exception_handler(Exception, lambda request, error: pytest.fail("the app has met the cut"))
    return api


async def post(app, path, parts, headers):
    """Send a body part by part."""

    async def content():
        for part in parts:
            yield part

    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.post(path, content=content(), headers=headers)


@pytest.mark.parametrize("path", ["/form", "/json", "/stream"])
def test_body_that_does_not_say_its_length_is_cut_off(path):
    """As browsers and programs that do not know it send it; whoever reads the body, the answer says what was wrong."""
    limit = 2**20
    guard = Guard(app_of_bodies(), Rules(upload_limit=limit))
    head, end = {
        "/form": (b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n', b"\r\n--x--\r\n"),
        "/json": (b'["', b'"]'),
        "/stream": (b"", b""),
    }[path]
    headers = {"content-type": "application/json" if path == "/json" else "multipart/form-data; boundary=x"}
    for size, status in ((limit - len(head + end), 200), (limit - len(head + end) + 1, 413)):
        answer = run_coroutine(post(guard, path, [head, b"0" * size, end], headers))
        assert "content-length" not in answer.request.headers
        assert answer.status_code == status, answer.text
    assert answer.json() == {"detail": "the request is larger than 1 MiB"}
