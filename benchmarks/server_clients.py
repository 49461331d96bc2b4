"""Clients of the server that ask all the time, and check that each answer is their own."""

from __future__ import annotations

import hashlib
import http.client
import json
import math
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ldm.images.embed import parameters_in
from ldm.images.metadata import parse_parameters
from ldm.images.opening import opened

THINGS = ("apple", "cat", "dog", "house", "panda", "fox", "tree", "flower", "car", "boat")
COLOURS = ("red", "blue", "green", "yellow", "white", "orange")
POOL = 300  # different jobs: the same one again must give the same bytes
PATIENCE = 600.0  # seconds for one answer


@dataclass
class Seen:
    """What clients have seen; they share it.

    Attributes:
        moments: When each picture came, in seconds since the beginning.
        waited: Seconds that each picture waited in the queue, as the server says.
        answered: Seconds from asking to having the picture.
        turned_away: Answers 429 and 503.
        mixed_up: Pictures whose seed, prompt or scale is another one's, or whose bytes differ from
            those that the same job had before.
        faults: What else went wrong, in words.
    """

    moments: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    turned_away: int = 0
    mixed_up: int = 0
    faults: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


def jobs(steps: int, draw: random.Random) -> list[dict[str, Any]]:
    """Return different jobs of one picture each, which fit into one batch."""
    return [
        {
            "prompt": f"a {draw.choice(COLOURS)} {draw.choice(THINGS)} on a "
            f"{draw.choice(COLOURS)} background",
            "seed": number,
            "scale": draw.choice((2.0, 3.0, 4.5)),
            "ddim_steps": steps,
        }
        for number in range(POOL)
    ]


@dataclass
class Client:
    """Asks for a picture, fetches it, checks it, and asks again.

    Attributes:
        port: The server's, on this machine.
        key: Opens it.
        jobs: To choose from.
        seen: Where it notes what comes.
        until: When it ends, by ``time.monotonic``.
        begun: When measuring began, likewise.
        draw: Chooses.
        most: How often it asks at most.
    """

    port: int
    key: str
    jobs: Sequence[dict[str, Any]]
    seen: Seen
    until: float
    begun: float
    draw: random.Random
    most: float = math.inf

    def run(self) -> None:
        """Ask until the time is over, or it was often enough."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            asked = 0
            while time.monotonic() < self.until and asked < self.most:
                self._once(connection, self.draw.choice(self.jobs))
                asked += 1
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            with self.seen.lock:
                self.seen.faults.append(f"{type(error).__name__}: {error}")
        finally:
            connection.close()

    def _once(self, connection: http.client.HTTPConnection, job: dict[str, Any]) -> None:
        began = time.monotonic()
        status, headers, body = self._ask(connection, "POST", "/v1/jobs", job)
        if status in (429, 503):
            with self.seen.lock:
                self.seen.turned_away += 1
            time.sleep(float(headers.get("Retry-After", "1")))
            return
        if status != 202:
            raise ValueError(f"{status}: {body[:200]!r}")
        place = f"/v1/jobs/{json.loads(body)['id']}"
        _, _, events = self._ask(connection, "GET", f"{place}/events")
        last = json.loads(events.decode().strip().split("data: ")[-1])
        if last["state"] != "done":
            raise ValueError(f"a job has {last['state']}: {last.get('error')}")
        _, _, png = self._ask(connection, "GET", last["pictures"][0]["href"])
        self._note(job, png, last["waited"], began)

    def _ask(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def _note(self, job: dict[str, Any], png: bytes, waited: float, began: float) -> None:
        own, digest = is_own(job, png), hashlib.sha256(png).hexdigest()
        now, name = time.monotonic(), json.dumps(job, sort_keys=True)
        with self.seen.lock:
            same = self.seen.digests.setdefault(name, digest) == digest
            self.seen.mixed_up += not (own and same)
            self.seen.moments.append(now - self.begun)
            self.seen.waited.append(waited)
            self.seen.answered.append(now - began)


def is_own(job: dict[str, Any], png: bytes) -> bool:
    """Return whether a picture's recipe is that of a job."""
    with opened(png) as image:
        prompt, _, entries = parse_parameters(parameters_in(image) or "")
    scale = float(entries.get("CFG scale", "nan"))
    return (prompt, entries.get("Seed"), scale) == (job["prompt"], str(job["seed"]), job["scale"])
