"""Pictures come as bytes; addresses and paths are not followed, and bombs are not unpacked."""

from __future__ import annotations

import base64
import io
import socket
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from apps.server.pictures import picture_in, picture_of
from ldm.errors import UserError


def file_of(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


RAMP = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,", "DATA:image/PNG;base64,"])
def test_a_picture_in_base64_is_read_to_the_byte(prefix):
    read = picture_in(prefix + text_of(file_of(RAMP)))
    assert np.array_equal(np.asarray(read), np.asarray(RAMP))


def test_a_jpeg_begins_with_a_slash_and_is_no_path():
    text = text_of(file_of(RAMP, "JPEG"))
    assert text[0] == "/" and picture_in(text).size == (4, 4)


def test_transparency_is_kept_for_whoever_wants_it():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert picture_of(file_of(clear)).mode == "RGBA"


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:9/x.png",
        "https://example.org/x.png",
        "HTTP://example.org",
        "file:///etc/passwd",
        "ftp://x/y",
        "gopher:x",
        "//example.org/x.png",
        "/etc/passwd",
        "../../etc/passwd",
        "~/x.png",
        "\\\\\\\\host\\\\share\\\\x.png",
        "C:\\\\x.png",
        "data:text/html;base64,AAAA",
        "data:image/png,AAAA",
        "data:image/svg+xml;base64,PHN2Zz4=",
        "",
        "====",
        "é",
        "\ud800",
        "A" * 5000 + "!",
    ],
)
def test_nothing_else_is_followed_or_opened(text, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("something was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(io, "open", refuse)
    with pytest.raises(UserError):
        picture_in(text)


@pytest.mark.parametrize("value", [None, 5, [], {}, True, b"x"])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(UserError, match="image is no text"):
        picture_in(value)


def bomb(width: int, height: int) -> bytes:
    """Return a PNG of a few KB that claims to be large."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(10**6), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def test_a_bomb_is_refused_by_its_size_before_it_is_unpacked():
    with pytest.raises(UserError, match="image is too large .*megapixels"):
        picture_of(bomb(60_000, 60_000))


@pytest.mark.parametrize("data", [b"", b"GIF89a", file_of(RAMP)[:40], b"%PDF-1.4", b"\0" * 100])
def test_what_is_no_whole_picture_is_refused_in_one_line(data):
    with pytest.raises(UserError, match="^mask ") as caught:
        picture_of(data, "mask")
    assert "\n" not in str(caught.value)
