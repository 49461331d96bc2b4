"""Requests that no server should do: each is wrong in one way, which follows from a seed."""

from __future__ import annotations

import base64
import functools
import io
import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

SMALL = {"prompt": "a cat", "width": 64, "height": 64, "steps": 1}
TXT2IMG, IMG2IMG = "/sdapi/v1/txt2img", "/sdapi/v1/img2img"
EXTRA, INFO, OPTIONS = (
    f"/sdapi/v1/{name}" for name in ("extra-single-image", "png-info", "options")
)
GENERATIONS, EDITS, VARIATIONS = (
    f"/v1/images/{name}" for name in ("generations", "edits", "variations")
)
JOBS = "/v1/jobs"
# What is right but for the one value that is put in.
RIGHT: Mapping[str, Mapping[str, Any]] = {
    TXT2IMG: SMALL,
    IMG2IMG: SMALL,
    GENERATIONS: {"prompt": "a cat", "size": "64x64", "steps": 1},
    JOBS: {"prompt": "a cat", "W": 64, "H": 64, "ddim_steps": 1},
}
NUMBERS: Mapping[str, tuple[str, ...]] = {
    TXT2IMG: ("steps", "width", "height", "cfg_scale", "seed", "batch_size", "n_iter", "eta"),
    IMG2IMG: ("denoising_strength", "mask_blur", "inpainting_fill", "resize_mode", "steps"),
    GENERATIONS: ("n", "seed", "steps", "guidance_scale"),
    JOBS: ("ddim_steps", "scale", "seed", "W", "H", "n_samples", "ddim_eta", "clip_skip"),
}
TEXTS: Mapping[str, tuple[str, ...]] = {
    TXT2IMG: ("prompt", "negative_prompt", "sampler_name", "scheduler"),
    IMG2IMG: ("prompt", "negative_prompt", "sampler_index"),
    GENERATIONS: ("prompt", "size", "response_format", "model", "output_format"),
    JOBS: ("prompt", "negative_prompt", "sampler", "spacing", "prompt_syntax"),
}
NO_NUMBER = ("x", "", "1e", [], [1], {}, {"a": 1}, True, "NaN", 1e308, -1e308, 10**300, -(10**9))
NO_TEXT = (1, 1.5, True, [], ["a"], {}, {"a": "b"}, "\ud800", "a\0b", "x" * 50_000, "\udfff" * 9)
CLOSED = (
    *("init_img", "mask", "ckpt", "config", "outdir", "from_file", "from_image", "glossary"),
    *("translator", "decoder", "device", "precision", "use_ema", "safety_checker", "watermark"),
    *("max_pixels", "kernels", "control"),
)


@dataclass(frozen=True)
class Case:
    """A request.

    Attributes:
        kind: What is wrong with it.
        method: GET, POST, ...
        path: Its address, without the server's.
        body: Its bytes.
        headers: Beside the key and the length.
    """

    kind: str
    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Forge:
    """Makes wrong requests.

    Args:
        seed: Of all choices.
        address: That of a listener which nobody should ask, such as ``127.0.0.1:5000``.
        files: Files of this machine which nobody should read.
    """

    def __init__(self, seed: int, address: str, files: list[str]) -> None:
        self.random, self.address, self.files = random.Random(seed), address, files

    def cases(self, count: int) -> Iterator[Case]:
        """Yield requests, of all kinds in turn."""
        kinds: list[Callable[[], Case]] = [
            *(self.no_number, self.no_text, self.unknown_field, self.broken_json, self.no_object),
            *(self.address_for_picture, self.no_picture, self.form, self.no_place, self.closed),
            *(self.adapter, self.headers, self.options),
        ]
        for number in range(count):
            yield kinds[number % len(kinds)]()

    def post(self, kind: str, path: str, values: Any) -> Case:
        """Return a request with a JSON body."""
        return Case(kind, "POST", path, json.dumps(values).encode(), _JSON)

    def right(self, path: str) -> dict[str, Any]:
        """Return fields with which a request would be done."""
        values = dict(RIGHT[path])
        if path == IMG2IMG:
            values["init_images"] = [base64.b64encode(picture()).decode()]
        return values

    def one(self, *choices: Any) -> Any:
        """Return one of several."""
        return self.random.choice(choices)

    def no_number(self) -> Case:
        """A number that is none, is not finite, or is far from any that makes sense."""
        path = self.one(*NUMBERS)
        # The native API takes any finite number for guidance, as a command line does.
        wrong = NO_NUMBER[:9] if path == JOBS else NO_NUMBER
        values = {**self.right(path), self.one(*NUMBERS[path]): self.one(*wrong)}
        case = self.post("no number", path, values)
        raw = self.one("NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, None)
        if raw is None:
            return case
        values[self.one(*NUMBERS[path])] = "@"
        body = json.dumps(values).replace('"@"', raw).encode()
        return Case("no number", "POST", path, body, _JSON)

    def no_text(self) -> Case:
        """A text that is none, is endless, or is no Unicode."""
        path = self.one(*TEXTS)
        # The native API takes what a command line takes, where half a character may stand.
        wrong = NO_TEXT[:7] if path == JOBS else NO_TEXT
        values = {**self.right(path), self.one(*TEXTS[path]): self.one(*wrong)}
        return self.post("no text", path, values)

    def unknown_field(self) -> Case:
        """A field that there is not."""
        path = self.one(*RIGHT)
        name = self.one("stpes", "__class__", "", "\x1b[31m", "a" * 9000, "é\u202e", "$where")
        more = {f"{name}{k}": self.one(*NO_TEXT[:6]) for k in range(self.one(1, 2, 2000))}
        return self.post("unknown field", path, {**self.right(path), **more})

    def broken_json(self) -> Case:
        """A body that is no JSON."""
        path = self.one(*RIGHT, EXTRA, INFO, OPTIONS)
        whole = json.dumps(self.right(self.one(*RIGHT))).encode()
        cut = whole[: self.random.randrange(len(whole))]
        deep = self.random.choice((70, 5000, 200_000))
        body = self.one(
            cut,
            self.random.randbytes(200),
            b'{"prompt": "\xff\xfe"}',
            b'{"prompt": ' + b"[" * deep + b"]" * deep + b"}",
            b'{"a":' * deep + b"1" + b"}" * deep,
            b"{'prompt': 'cat'}",
            whole + b"}",
            b'{"seed": ' + b"1" * 100_000 + b"}",
        )
        return Case("broken JSON", "POST", path, body, _JSON)

    def no_object(self) -> Case:
        """JSON that is no object."""
        value = self.one([], [1, 2], "prompt", 5, None, True, 1.5, [{"prompt": "cat"}])
        return self.post("no object", self.one(*RIGHT, EXTRA, INFO, OPTIONS), value)

    def place(self) -> str:
        """Return an address or a path where a picture may be."""
        path = self.random.choice(self.files)
        return self.one(
            f"http://{self.address}/a.png",
            f"HTTP://user@{self.address}/a.png",
            f"https://{self.address}/a.png",
            f"ftp://{self.address}/a.png",
            f"gopher://{self.address}/_GET",
            f"//{self.address}/a.png",
            f"\\\\{self.address}\\share\\a.png",
            f"file://{path}",
            path,
            f"../../../../../..{path}",
            f"data:text/html;base64,{base64.b64encode(path.encode()).decode()}",
            f"data:image/png,{path}",
            "http://169.254.169.254/latest/meta-data/",
            "~/.ssh/id_rsa",
            "/etc/passwd",
        )

    def address_for_picture(self) -> Case:
        """An address or a path in place of a picture."""
        kind, place = "address for a picture", self.place()
        where = self.one(IMG2IMG, "mask", EXTRA, INFO, JOBS, EDITS)
        if where == IMG2IMG:
            return self.post(kind, IMG2IMG, {**SMALL, "init_images": [place]})
        if where == "mask":
            return self.post(kind, IMG2IMG, {**self.right(IMG2IMG), "mask": place})
        if where == EDITS:
            return _form(kind, EDITS, [("prompt", None, b"x"), ("image", None, place.encode())])
        more = SMALL if where == IMG2IMG else self.right(JOBS) if where == JOBS else {}
        return self.post(kind, where, {**more, "image": place})

    def no_picture(self) -> Case:
        """Bytes that are no picture, or one that would fill the memory."""
        kind, data = "no picture", self.one(*bad_pictures()) or self.random.randbytes(99)
        where = self.one(IMG2IMG, EXTRA, INFO, JOBS, EDITS, VARIATIONS)
        if where in (EDITS, VARIATIONS):
            texts = [("prompt", None, b"x")] if where == EDITS else []
            return _form(kind, where, [*texts, ("image", "../../a.png", data)])
        text = base64.b64encode(data).decode()
        if where == IMG2IMG:
            return self.post(kind, IMG2IMG, {**SMALL, "init_images": [text]})
        return self.post(
            kind, where, {**(self.right(JOBS) if where == JOBS else {}), "image": text}
        )

    def form(self) -> Case:
        """A form with something wrong in it."""
        path, job = self.one((EDITS, ("prompt", None, b"x")), (JOBS, ("job", None, b"{}")))
        image = ("image", "a.png", picture())
        parts = self.one(
            [job, image, image],
            [job, job, image],
            [job, ("n", None, b"many"), image],
            [("prompt", None, b"\xff\xfe"), ("n", None, b"many"), image],
            [job, ("../image", "a.png", picture())],
            [job, image, ("mask", "m.png", b"no picture")],
            [job, image, *((f"f{k}", None, b"1") for k in range(100))],
            [job, *((f"f{k}", "a.png", b"1") for k in range(100))],
            [("prompt", None, b"x" * 200_000), image],
        )
        case = _form("form", path, parts)
        cut = case.body[: self.random.randrange(len(case.body) - 3)]
        broken = Case("form", "POST", path, cut, case.headers)
        odd = {"Content-Type": self.one("multipart/form-data", "multipart/form-data; boundary=")}
        return self.one(case, case, broken, Case("form", "POST", path, case.body, odd))

    def no_place(self) -> Case:
        """An address that there is not, or a method that it does not take."""
        path = self.one(
            "/sdapi/v1/../../etc/passwd",
            "/sdapi/v1/%2e%2e/%2e%2e/etc/passwd",
            "/v1/jobs/..%2f..%2fetc%2fpasswd",
            "/v1/jobs/%00",
            f"/v1/jobs/{'a' * 2000}",
            "/v1/jobs/x/pictures/0",
            "/v1/jobs/x/pictures/-1",
            "/v1/jobs/x/pictures/99999999999999999999",
            "/v1/models/%F0%9F%90%88",
            "/file=/etc/passwd",
            "/sdapi/v1/unload-checkpoint",
            "//sdapi/v1/samplers",
            "/docs",
            "/openapi.json",
        )
        method = self.one("GET", "GET", "PUT", "PATCH", "DELETE", "TRACE", "BREW")
        taken = Case("no place", self.one("PUT", "DELETE", "BREW"), self.one(*RIGHT))
        return self.one(taken, Case("no place", method, path))

    def closed(self) -> Case:
        """A field that the operator decides, or that names a file."""
        name, value = self.one(*CLOSED), self.one(self.place(), "cpu", True, "")
        return self.post("closed field", JOBS, {**self.right(JOBS), name: value})

    def adapter(self) -> Case:
        """An adapter that is named by its path, or is not there."""
        name = self.one(*self.files, "../../x", "C:\\x.pt", "//host/x.safetensors", "nothing", "")
        if self.one(True, False):
            value = [f"{name}:1"] if self.one(True, False) else name
            where = self.one("lora", "embedding")
            return self.post("adapter", JOBS, {**self.right(JOBS), where: value})
        path = self.one(TXT2IMG, IMG2IMG)
        prompt = f"a cat <lora:{name}:{self.one('1', 'nan', '1e999', 'x')}>"
        return self.post("adapter", path, {**self.right(path), "prompt": prompt})

    def headers(self) -> Case:
        """A header that does not go with the rest."""
        path = self.one(TXT2IMG, GENERATIONS, JOBS)
        body = json.dumps(self.right(path)).encode()
        odd = self.one(
            {"Host": "evil.example"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic !!!"},
            {"Authorization": f"Bearer {'x' * 5000}"},
            {"Content-Type": "text/plain"},
            {"Content-Type": "application/x-www-form-urlencoded"},
            {"Content-Length": "10"},
            {"Content-Length": "-1"},
        )
        return Case("header", "POST", path, body, {**_JSON, **odd})

    def options(self) -> Case:
        """An option, an extension or a script that there is not."""
        name = self.one(
            "sd_model_checkpoint", "sd_vae", "outdir_samples", "CLIP_stop_at_last_layers"
        )
        value = self.one("../../x.ckpt", 99, [], {}, "x" * 5000)
        path = self.one(TXT2IMG, IMG2IMG)
        more = self.one(
            {"override_settings": {name: value}},
            {"alwayson_scripts": {"ControlNet": {"args": [{"image": self.place()}]}}},
            {"script_name": "custom code", "script_args": ["print(1)"]},
            {"enable_hr": True, "hr_prompt": "another"},
            {"tiling": True},
        )
        whole = self.post("option", path, {**self.right(path), **more})
        return self.one(whole, self.post("option", OPTIONS, {name: value}))


_JSON = {"Content-Type": "application/json"}


@functools.cache
def picture() -> bytes:
    """Return a small picture's file."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 8, 7)).save(buffer, "PNG")
    return buffer.getvalue()


@functools.cache
def bad_pictures() -> tuple[bytes, ...]:
    """Return files that are no pictures, or too large ones."""
    buffer = io.BytesIO()
    Image.new("L", (8001, 8000)).save(buffer, "PNG")  # 64 megapixels in 60 KB
    text = b"zTXtComment\0\0" + zlib.compress(bytes(2**27), 9)
    long_text = picture()[:33] + struct.pack(">I", len(text) - 4) + text + struct.pack(">I", 0)
    return (
        b"",
        buffer.getvalue(),
        _png_of(60_000, 60_000),
        _png_of(2**31 - 1, 2**31 - 1),
        _png_of(0, 0),
        long_text,
        picture()[:60],
        b"GIF89a\xff\xff\xff\xff\x00\x00\x00",
        b"\xff\xd8\xff\xe0" + bytes(50),
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file",
        b"P6 99999 99999 255\n",
        b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        b"",
    )


def _png_of(width: int, height: int) -> bytes:
    """Return a PNG that says it is of a size, and holds nothing."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b""
    for chunk in (head, b"IDAT" + zlib.compress(bytes(100)), b"IEND"):
        chunks += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + chunks


def _form(kind: str, path: str, parts: list[tuple[str, str | None, bytes]]) -> Case:
    """Return a request with a form of texts and files: name, the file's name, bytes."""
    body = b""
    for name, file, data in parts:
        named = f'; filename="{file}"' if file else ""
        head = f'--edge\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
        body += head.encode() + data + b"\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    return Case(kind, "POST", path, body + b"--edge--\r\n", headers)
