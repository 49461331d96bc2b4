"""Pictures of jobs without a model: what a worker hands to an output, made of the number alone."""

from __future__ import annotations

import hashlib
import io
from typing import Any, NamedTuple

from PIL import Image
from small_pictures import noise

from ldm.jobs.base import Store
from ldm.jobs.manifest import Manifest, ManifestWriter
from ldm.jobs.output import Output, open_output
from ldm.jobs.records import Record, Records


class DrawnJob(NamedTuple):
    """What an output asks of a job."""

    number: int
    digest: str
    values: dict[str, Any]


def job(number: int, kind: str = "cat") -> DrawnJob:
    digest = hashlib.sha256(f"{kind} {number}".encode()).hexdigest()
    return DrawnJob(number, digest, {"prompt": f"a {kind}, number {number}"})


def picture(number: int, kind: str = "cat") -> bytes:
    """Return a PNG of noise, the same for the same arguments."""
    buffer = io.BytesIO()
    Image.fromarray(noise(8, 8, seed=number + 1000 * sum(kind.encode()))).save(buffer, "PNG")
    return buffer.getvalue()


def add(output: Output, number: int, kind: str = "cat") -> tuple[Record, ...]:
    text = f"a {kind}\nSeed: {number}"
    return output.add(job(number, kind), picture(number, kind), text, seconds=0.25)


def draw(store: Store, numbers, format: str = "folder", worker: str = "w", **options) -> Records:
    """Draw pictures as a run does: those that are not done yet; return what is done then."""
    done = Manifest(store).done()
    kind = options.pop("kind", "cat")
    with ManifestWriter(store, worker) as writer:
        output = open_output(format, store, writer, **options)
        for number in numbers:
            if done.digest(number) != job(number, kind).digest:
                add(output, number, kind)
        output.close()
    return Manifest(store).done()
