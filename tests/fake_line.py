"""A small LINE for tests: takes the SDK's calls over HTTP, and fails as it is told."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET, TOKEN = "channel-secret-for-tests", "access-token-for-tests"


@dataclass
class FakeLine:
    """LINE's state.

    Attributes:
        calls: (path, body, retry key) of every call.
        arrived: (chat or reply token, messages) of what was accepted.
        faults: Statuses for the next calls that send; ``lost`` accepts and answers 500.
        quota: Messages of a month; None is any number.
        photos: Bytes by message.
        languages: By user.
    """

    calls: list[tuple[str, Any, str]] = field(default_factory=list)
    arrived: list[tuple[str, list[dict[str, Any]]]] = field(default_factory=list)
    faults: deque = field(default_factory=deque)
    quota: int | None = None
    used: int = 0
    photos: dict[str, bytes] = field(default_factory=dict)
    languages: dict[str, str] = field(default_factory=dict)
    spent: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)

    def __enter__(self) -> FakeLine:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(*fake.get(self.path))

            def do_POST(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length))
                right = self.headers.get("authorization") == f"Bearer {TOKEN}"
                key = self.headers.get("x-line-retry-key") or ""
                found = fake.post(self.path, body, key) if right else (401, {"message": "who?"})
                self._answer(*found)

            def _answer(self, status: int, body: Any) -> None:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                kind = "image/png" if isinstance(body, bytes) else "application/json"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def get(self, path: str) -> tuple[int, Any]:
        self.calls.append((path, None, ""))
        if path.endswith("/quota"):
            kind = {"type": "none"} if self.quota is None else {"type": "limited"}
            return 200, kind | ({} if self.quota is None else {"value": self.quota})
        if path.endswith("/consumption"):
            return 200, {"totalUsage": self.used}
        if path.startswith("/v2/bot/profile/"):
            user = path.rpartition("/")[2]
            language = {"language": self.languages[user]} if user in self.languages else {}
            return 200, {"displayName": "x", "userId": user, **language}
        name = path.split("/")[-2]
        return (200, self.photos[name]) if name in self.photos else (404, {"message": "no"})

    def post(self, path: str, body: Any, key: str) -> tuple[int, Any]:
        self.calls.append((path, body, key))
        if path.endswith("/loading/start"):
            return 202, {}
        fault = self.faults.popleft() if self.faults else 200
        if fault not in (200, "lost"):
            return fault, {"message": "as told"}
        done = 200, {"sentMessages": [{"id": "1"}]}
        if path.endswith("/reply"):
            token = body["replyToken"]
            if token in self.spent:
                return 400, {"message": "Invalid reply token"}
            self.spent.add(token)
            self.arrived.append((token, body["messages"]))
        else:
            if key in self.keys:
                return 409, {"message": "The retry key is already accepted"}
            self.keys.add(key)
            self.used += 1
            self.arrived.append((body["to"], body["messages"]))
        return (500, {"message": "lost"}) if fault == "lost" else done


def signed(events: list[Any]) -> tuple[bytes, str]:
    """Return a webhook's body and signature."""
    body = {"destination": "U0", "events": events}
    try:
        data = json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a character, which JSON can escape
        data = json.dumps(body).encode()
    return data, signature(data)


def signature(body: bytes) -> str:
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def message(name: str, text: str, user: str = "Ualice", sent: float = 1e9, **more: Any) -> dict:
    """Return a text message's event."""
    content = {"type": "text", "id": f"m{name}", "text": text, "quoteToken": "q"}
    return event(
        name, user, sent, type="message", message=content | more.pop("content", {}), **more
    )


def photo(name: str, user: str = "Ualice", sent: float = 1e9) -> dict:
    content = {"type": "image", "id": f"m{name}", "quoteToken": "q"}
    content["contentProvider"] = {"type": "line"}
    return event(name, user, sent, type="message", message=content)


def button(name: str, data: str, user: str = "Ualice", sent: float = 1e9) -> dict:
    return event(name, user, sent, type="postback", postback={"data": data})


def event(name: str, user: str, sent: float, **more: Any) -> dict:
    return {
        "webhookEventId": f"E{name}",
        "timestamp": int(sent * 1000),
        "mode": "active",
        "source": {"type": "user", "userId": user},
        "deliveryContext": {"isRedelivery": False},
        "replyToken": f"r{name}",
        **more,
    }
