"""Whatever a stranger sends to a page is refused in one line, and gradio never sees it."""

from __future__ import annotations

import json

import pytest

for name in ("starlette.testclient", "python_multipart"):  # gradio's own, quicker to import
    pytest.importorskip(name, reason="needs gradio: pip install -e '.[web]'")

from gated_page import API, DRAW, INPAINT, SELECT, STOP, gated, png  # noqa: E402 - starlette

GOOD = ["a cat", 64, False]
NO_FILES = {"background": None, "layers": [], "composite": None, "id": None}


@pytest.fixture
def page(tmp_path):
    return gated(tmp_path)


def assert_refused(page, answer, *codes):
    """Check that an answer is one line with one of these codes, and that gradio saw nothing."""
    assert answer.status_code in codes, answer.text
    assert "\n" not in answer.json()["detail"]
    assert len(answer.text) < 1000
    assert not page.inner.seen
    assert not [name for name in answer.headers if name.startswith("access-control")]


# --- names and origins ---

FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:7860",
    "127.0.0.1.evil.example",
    "localhost.evil.example:7860",
    "10.0.0.1:7860",
    "localhost@evil.example",
    "localhost:7860/evil.example",
    "[::2]:7860",
    "localhost,evil.example",
    "",
    " ",
    "localhost:port",
]


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_foreign_host_is_turned_away(page, host):
    assert_refused(page, page.client.get("/", headers={"Host": host}), 400)


@pytest.mark.parametrize("second", ["evil.example", "127.0.0.1:7860"])
def test_a_second_host_is_turned_away(page, second):
    two = [("Host", "127.0.0.1:7860"), ("Host", second)]
    assert_refused(page, page.client.get("/", headers=two), 400)


def test_a_forwarded_host_is_no_way_around(page):
    assert_refused(page, page.client.get("/", headers={"X-Forwarded-Host": "evil.example"}), 400)


FOREIGN_ORIGINS = [
    "http://evil.example",
    "https://evil.example",
    "null",
    "http://localhost:8888",
    "http://127.0.0.1",
    "http://127.0.0.1:7860.evil.example",
    "file://",
    "http://127.0.0.1:7860@evil.example",
    "http://localhost:7860",  # not the address that is asked
]


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_foreign_origin_is_turned_away(page, origin, method):
    path = "/" if method == "GET" else f"{API}/upload"
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    assert_refused(page, page.client.request(method, path, headers=headers), 403)


def test_an_upload_from_a_foreign_origin_is_not_read(page):
    def body():
        yield b"x"
        pytest.fail("the gate read on")

    headers = {"Origin": "http://evil.example", "Content-Length": str(3 * 10**8)}
    assert_refused(page, page.client.post(f"{API}/upload", content=body(), headers=headers), 403)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_picture_or_a_script_is_not_for_another_sites_page(page, site):
    for path in ("/", f"{API}/file={page.folder}/good.png", "/config"):
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
        assert_refused(page, page.client.get(path, headers=headers), 403)


# --- addresses ---

UNUSED = [
    "/monitoring",
    "/monitoring/summary",
    "/docs",
    "/redoc",
    "/openapi.json",
    f"{API}/openapi.json",
    "/login",
    "/logout",
    f"{API}/token",
    f"{API}/user",
    f"{API}/login_check",
    f"{API}/dev/reload",
    f"{API}/queue/status",
    f"{API}/deep_link",
    f"{API}/runs",
    f"{API}/run-history/buckets",
    f"{API}/proxy=http://169.254.169.254/latest/meta-data",
    f"{API}/stream/a/b/c/playlist.m3u8",
    f"{API}/custom_component/a/client/b/c",
    f"{API}/mcp/sse",
    f"{API}/vibe-code/",
    f"{API}/profiling/traces",
    f"{API}/call/draw/1",
    "/svelte/a.js",
    "/pwa_icon/100000",
    "/assets/../routes.py",
    "/assets/.hidden",
    "/static//etc/passwd",
    "/no-such-page",
]
UNUSED_POSTS = [
    f"{API}/call/draw",
    f"{API}/call/v2/draw",
    f"{API}/run/draw",
    f"{API}/api/draw",
    f"{API}/api/predict",
    f"{API}/component_server",
    f"{API}/cancel",
    f"{API}/reset",
    f"{API}/stream/1",
    f"{API}/process_recording",
    f"{API}/vibe-edit",
    "/login",
    "/",
]


@pytest.mark.parametrize("path", UNUSED)
def test_an_address_that_the_page_does_not_use_is_not_there(page, path):
    assert_refused(page, page.client.get(path), 404)


@pytest.mark.parametrize("path", UNUSED_POSTS)
def test_a_call_past_the_queue_is_not_there(page, path):
    assert_refused(page, page.client.post(path, json={"data": GOOD, "fn_index": DRAW}), 404)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_not_there(page, method):
    assert_refused(page, page.client.request(method, "/"), 404)


def test_a_run_of_another_session_cannot_be_watched(page):
    assert_refused(page, page.client.get(f"{API}/queue/data?session_hash=other"), 404)


# --- files ---

HIDDEN = [
    "/etc/passwd",
    "http://127.0.0.1:22/",
    "https://evil.example/a.png",
    "{out}",
    "{out}/",
    "{out}/page.html",
    "{out}/drawing.svg",
    "{out}/script.png",
    "{out}/.hidden.png",
    "{out}/.git/good.png",
    "{out}/link.png",
    "{out}/../outside.png",
    "{out}/missing.png",
    "{out}/good.png/..",
    "{out}/good.png\0.html",
    "//evil.example/share/a.png",
    "../outside.png",
    "a" * 5000 + ".png",
]


@pytest.mark.parametrize("path", HIDDEN)
def test_only_pictures_below_the_output_folder_are_handed_out(page, path):
    address = f"{API}/file=" + path.format(out=page.folder).replace("\0", "%00")
    assert_refused(page, page.client.get(address), 404)


# --- calls ---

BODIES = [
    b"",
    b"x",
    b"null",
    b"[]",
    b"[" * 2000,
    b'{"fn_index": ' + b"9" * 1500 + b"}",
    b'{"fn_index": NaN}',
    b"\xff\xfe",
    json.dumps({"session_hash": "me"}).encode(),
]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("path", ["queue/join", "run/predict"])
def test_a_body_that_is_no_call_is_refused(page, body, path):
    assert_refused(page, page.post(path, body), 400)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_call_that_a_form_could_send_is_refused(page, kind):
    assert_refused(page, page.post("queue/join", b"{}", kind), 415)


FILE = {"meta": {"_type": "gradio.FileData"}}
WRONG = [
    (DRAW, None),
    (DRAW, {}),
    (DRAW, "a cat"),
    (DRAW, []),
    (DRAW, GOOD[:2]),
    (DRAW, [*GOOD, 1]),
    (DRAW, [["a cat"], 64, False]),
    (DRAW, ["a cat", {"value": 64}, False]),
    (DRAW, ["a cat", float("nan"), False]),
    (DRAW, ["a cat", float("inf"), False]),
    (DRAW, ["a cat", 1e300, False]),
    (DRAW, ["a cat", 10**400, False]),
    (DRAW, [FILE | {"path": "/etc/passwd"}, 64, False]),
    (99, GOOD),
    (-1, GOOD),
    (None, GOOD),
    ("0", GOOD),
    (0.0, GOOD),
    (True, GOOD),
    ([0], GOOD),
    (STOP, []),
    (INPAINT, [NO_FILES | {"background": FILE | {"path": "/etc/passwd"}}, None, ""]),
    (INPAINT, [NO_FILES | {"composite": FILE | {"path": "http://evil.example/a.png"}}, None, ""]),
    (INPAINT, [NO_FILES | {"layers": [FILE | {"url": "http://evil.example/a.png"}]}, None, ""]),
    (INPAINT, [NO_FILES | {"layers": [None] * 100}, None, ""]),
    (INPAINT, [NO_FILES | {"layers": "abc"}, None, ""]),
    (INPAINT, [None, FILE | {"path": "https://evil.example/a.png"}, ""]),
    (INPAINT, [None, FILE | {"path": ["/etc/passwd"]}, ""]),
    (INPAINT, [None, FILE | {"path": "../../etc/passwd"}, ""]),
    (INPAINT, [None, "/etc/passwd", ""]),
    (INPAINT, [[], None, ""]),
]


@pytest.mark.parametrize(("function", "data"), WRONG)
def test_a_call_of_wrong_kinds_is_refused_before_it_is_queued(page, function, data):
    assert_refused(page, page.call(function, data), 400)


@pytest.mark.parametrize("session", [None, "", 7, "a" * 65, "../a", "a b", "ä", ["me"]])
def test_a_session_is_a_short_name(page, session):
    assert_refused(page, page.call(DRAW, GOOD, session_hash=session), 400)


@pytest.mark.parametrize("event", [None, {}, {"index": -1}, {"index": "0"}, {"index": True}, []])
def test_what_was_clicked_is_the_number_of_a_picture(page, event):
    assert_refused(page, page.call(SELECT, [None], "run/predict", event_data=event), 400)


def test_a_run_is_not_drawn_past_the_queue(page):
    assert_refused(page, page.call(DRAW, GOOD, "run/predict"), 400)


def test_a_prompt_of_a_megabyte_is_not_read(page):
    assert_refused(page, page.call(DRAW, ["a" * 2**20, 64, False]), 413)


# --- uploads ---

FILES = [
    b"",
    b"<script>alert(1)</script>",
    b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    b"%!PS-Adobe-3.0 EPSF-3.0\n(file) run",
    b"%PDF-1.7",
    b"PK\x03\x04",
    b"\x80\x04cos\nsystem\n",
    b"GIF8",
]


@pytest.mark.parametrize("content", FILES)
def test_what_is_no_picture_is_not_taken(page, content):
    answer = page.client.post(f"{API}/upload", files={"files": ("a.png", content, "image/png")})
    assert_refused(page, answer, 400)
    assert not list(page.calls.uploads.folder.iterdir())


def chunks():
    yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + png()
    for _ in range(100):
        yield bytes(1000)


@pytest.mark.parametrize("said", [True, False], ids=["said", "found out"])
def test_an_upload_that_is_too_large_is_refused_and_leaves_nothing(page, said):
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    body = b"".join(chunks()) if said else chunks()
    assert_refused(page, page.client.post(f"{API}/upload", content=body, headers=kind), 413)
    assert not list(page.calls.uploads.folder.iterdir())


@pytest.mark.parametrize("length", ["-1", "x", "9" * 30, "1e3", "\u00b2"])
def test_a_length_that_is_no_number_is_refused(page, length):
    headers = [(b"content-length", length.encode("latin-1")), (b"host", b"localhost:7860")]
    answer = page.client.post(f"{API}/upload", content=iter([b""]), headers=headers)
    assert_refused(page, answer, 413)


@pytest.mark.parametrize(
    "body", [b"zzz", b"--b\r\n\r\n", b"--b\r\nContent-Type: a\r\n\r\nx\r\n--b--"]
)
def test_a_damaged_form_is_refused(page, body):
    assert_refused(page, page.post("upload", body, "multipart/form-data; boundary=b"), 400)


def test_a_hundred_files_at_once_are_refused(page):
    files = [("files", (f"{n}.png", png(1))) for n in range(100)]
    page.calls.uploads.folder.mkdir(exist_ok=True)
    answer = page.client.post(f"{API}/upload", files=files[:40])
    assert_refused(page, answer, 400, 413)


def test_a_page_has_no_websocket(page):
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), page.client.websocket_connect("/queue/join"):
        pass
    assert not page.inner.seen
