"""What Pillow is let at: regular files of some kinds, sizes and numbers of chunks."""

from __future__ import annotations

import io
import os
import struct
import zlib

import pytest
from PIL import Image

from ldm.budgets import PICTURE_BYTES, PIXELS, PNG_CHUNKS
from ldm.errors import UserError
from ldm.images.opening import TooLarge, allow_pixels, check_size, most_pixels, opened


def saved(name: str = "PNG", side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, name)
    return buffer.getvalue()


def test_bytes_and_files_open_alike_and_nothing_is_decoded(tmp_path):
    path = tmp_path / "x.eps"
    for name in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM"):
        path.write_bytes(saved(name))
        for source in (path, str(path), saved(name)):
            with opened(source) as image:
                assert (image.format, image.size) == (name, (8, 8))


def test_the_limit_is_64_megapixels_unless_it_is_set(monkeypatch):
    monkeypatch.delenv("LDM_MAX_PIXELS", raising=False)
    assert most_pixels() == PIXELS == 64_000_000
    check_size(8000, 8000)
    with pytest.raises(TooLarge, match=r"8001x8000, 64.01 megapixels\); expected at most 64 mega"):
        check_size(8001, 8000)
    monkeypatch.setenv("LDM_MAX_PIXELS", "1")  # to be restored
    allow_pixels(63)
    with pytest.raises(TooLarge, match="at most 63 pixels; .* --max_pixels"), opened(saved()):
        pass
    allow_pixels(64)
    with opened(saved()) as image:
        assert image.size == (8, 8)


def test_a_file_of_a_gigabyte_is_not_read(tmp_path):
    path = tmp_path / "x.png"
    with open(path, "wb") as file:
        file.write(saved())
        file.truncate(PICTURE_BYTES + 2**20)  # without taking room on the disk
    with pytest.raises(TooLarge, match="has 1025 MB; expected a file of at most 1024 MB"):
        opened(path).__enter__()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(UserError, match="no ordinary file"):
        opened(tmp_path / "x.png").__enter__()


def test_a_png_may_have_as_many_chunks_as_one_of_its_size_needs():
    data = saved()
    body = b"aaAa"
    small = struct.pack(">I", 0) + body + struct.pack(">I", zlib.crc32(body))
    for count, read in ((PNG_CHUNKS - 5, True), (PNG_CHUNKS + 500, False)):
        crowded = data[:33] + small * count + data[33:]
        if read:
            with opened(crowded) as image:
                assert image.size == (8, 8)
        else:
            with pytest.raises(TooLarge, match="more than 10000 chunks"):
                opened(crowded).__enter__()
