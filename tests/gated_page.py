"""A gate before a page that notes what reaches it, for tests of either."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.testclient import TestClient

from optimizedSD.web.calls import Calls, Function
from optimizedSD.web.gate import Gate
from optimizedSD.web.hosts import Hosts
from optimizedSD.web.limits import Limits
from optimizedSD.web.uploads import Uploads

API = "/gradio_api"
DRAW, STOP, SELECT, INPAINT, CHOOSE = range(5)
FUNCTIONS = {
    DRAW: Function(queued=True, inputs=("textbox", "number", "checkbox")),
    STOP: Function(queued=False, inputs=()),
    SELECT: Function(queued=False, inputs=("state",), clicked=True),
    INPAINT: Function(queued=True, inputs=("imageeditor", "image", "textbox")),
    CHOOSE: Function(queued=True, inputs=("dropdown",)),
}


@dataclass
class Inner:
    """Answers everything, readable for every origin, and notes it."""

    seen: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        self.seen.append((scope["method"], scope["path"]))
        self.bodies.append(message.get("body", b""))
        headers = [(b"access-control-allow-origin", b"*"), (b"content-type", b"text/html")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": scope["query_string"]})


@dataclass
class Gated:
    """A page behind its gate, and a visitor.

    Attributes:
        inner: The page.
        client: The visitor's, at the page's own address.
        folder: The output folder.
        calls: What the page's calls are.
        left: The sessions whose window was closed.
    """

    inner: Inner
    client: TestClient
    folder: Path
    calls: Calls
    left: list[str]

    def call(self, function: Any, data: Any, path: str = "queue/join", **rest: Any) -> Any:
        """Call a function of the page."""
        call = {"fn_index": function, "data": data, "session_hash": "me", **rest}
        return self.post(path, json.dumps(call))

    def post(self, path: str, body: str | bytes, kind: str = "application/json") -> Any:
        """Send a body."""
        return self.client.post(f"{API}/{path}", content=body, headers={"Content-Type": kind})


def gated(folder: Path, *, address: str = "127.0.0.1", others: tuple[str, ...] = ()) -> Gated:
    """Make a page and its gate; its output folder holds pictures, and what looks like some."""
    outdir = folder / "out"
    outdir.mkdir()
    picture = outdir / "good.png"
    Image.new("RGB", (4, 4), "red").save(picture)
    for name in (".hidden.png", "page.html", "drawing.svg"):
        (outdir / name).write_bytes(picture.read_bytes())
    (outdir / "script.png").write_text("<script>alert(1)</script>")
    (outdir / ".git").mkdir()
    (outdir / ".git" / "good.png").write_bytes(picture.read_bytes())
    Image.new("RGB", (4, 4)).save(folder / "outside.png")
    (outdir / "link.png").symlink_to(folder / "outside.png")
    inner, left = Inner(), []
    folders = [outdir, folder / "cache"]
    calls = Calls(FUNCTIONS, frozenset({7}), Uploads(folder / "cache"), folders)
    limits = Limits(upload=10_000, prompt=100)
    hosts = Hosts(address, others)
    gate = Gate(inner, hosts, calls, limits, folders, left.append)
    client = TestClient(gate, base_url="http://127.0.0.1:7860")
    return Gated(inner, client, outdir, calls, left)


def png(size: int = 4, color: str = "blue") -> bytes:
    """Return a PNG file."""
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), color).save(buffer, "PNG")
    return buffer.getvalue()
