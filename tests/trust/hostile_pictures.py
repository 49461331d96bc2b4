"""Files that claim to be pictures, made by code: valid ones, other formats, bombs, lies, cuts."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

SIDE = 24
RAMP = np.arange(SIDE * SIDE * 3, dtype=np.uint8).reshape(SIDE, SIDE, 3)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, *, depth: int = 8, colour: int = 2, extra: bytes = b"", rows: int = 1
) -> bytes:
    """Return a PNG of a claimed size that holds ``rows`` rows of zeros, or all of them (-1)."""
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = 1 + (width * bits + 7) // 8
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(row)) for _ in range(height if rows < 0 else rows))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", data + packer.flush())
        + chunk(b"IEND", b"")
    )


def saved(name: str, image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image or Image.fromarray(RAMP)).save(buffer, name, **options)
    return buffer.getvalue()


def tiff(width: int, height: int, *entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """Return a little-endian TIFF with one directory: (tag, type, count, value), sorted."""
    usual = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1)),
        *((262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height)),
        (279, 4, 1, width * height % 2**32),
    ]
    tags = {entry[0]: entry for entry in (*usual, *entries)}
    body = b"".join(struct.pack("<HHII", *tags[tag]) for tag in sorted(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + body + struct.pack("<I", following)


def gif(width: int, height: int, frames: bytes) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + frames + b";"


def frame(left: int, top: int, width: int, height: int) -> bytes:
    return b"," + struct.pack("<HHHHB", left, top, width, height, 0) + b"\x02\x02\x44\x01\0"


def bmp(width: int, height: int, bits: int = 24, packing: int = 0, data: bytes = b"") -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, packing, len(data), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(data), 0, 0, 54) + header + data


def valid() -> Iterator[tuple[str, bytes]]:
    """Yield pictures that are read."""
    picture = Image.fromarray(RAMP)
    for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"):
        yield name.lower(), saved(name)
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16", "I"):
        yield f"png {mode}", saved("PNG", Image.new(mode, (SIDE, SIDE)))
    yield "tiff F", saved("TIFF", Image.new("F", (SIDE, SIDE), 0.5))
    yield "jpeg cmyk", saved("JPEG", Image.new("CMYK", (SIDE, SIDE)))
    yield "jpeg progressive", saved("JPEG", picture, progressive=True)
    yield "animated gif", saved("GIF", picture, save_all=True, append_images=[picture.rotate(90)])
    yield "animated png", saved("PNG", picture, save_all=True, append_images=[picture.rotate(90)])
    yield "tiff of two", saved("TIFF", picture, save_all=True, append_images=[picture])
    yield "thin", png(60_000, 2, rows=-1)
    yield "near the limit", png(8_000, 7_999, depth=1, colour=0, rows=-1)
    yield "a long text", png(9, 9, rows=-1, extra=chunk(b"tEXt", b"parameters\0" + b"[" * 10**6))
    packed = b"p\0\0" + zlib.compress(bytes(10**7), 9)
    yield "a packed text", png(9, 9, rows=-1, extra=chunk(b"zTXt", packed))
    yield "a packed profile", png(9, 9, rows=-1, extra=chunk(b"iCCP", packed))
    yield "many chunks", png(9, 9, rows=-1, extra=chunk(b"aaAa", b"") * 5_000)
    yield "many texts", png(9, 9, rows=-1, extra=chunk(b"tEXt", b"k\0v") * 5_000)
    exif = b"II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 0x9286, 7, 2**32 - 1, 8) * 65_535
    yield "a wild exif", png(9, 9, rows=-1, extra=chunk(b"eXIf", exif))
    turned = Image.Exif()
    turned[0x0112], turned[0x9286] = 6, b"x" * 60_000
    yield "turned with a large exif", saved("JPEG", picture, exif=turned)
    loop = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x8769, 4, 1, 8) + bytes(4)
    yield "an exif in a circle", png(9, 9, rows=-1, extra=chunk(b"eXIf", loop))
    one = saved("GIF", Image.new("P", (9, 9)))
    frames = 13 + 3 * 2 ** ((one[10] & 7) + 1)
    yield "many frames", one[:frames] + one[frames:-1] * 50_000 + b";"
    claims = chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
    yield "frames that are not there", png(9, 9, rows=-1, extra=claims)


def other_formats() -> Iterator[tuple[str, bytes]]:
    """Yield files of formats that are not read, whatever they are named."""
    yield "eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\n(x) print\n"
    yield "eps behind a header", b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, 90) + b"%!PS" * 30
    yield "pdf", b"%PDF-1.4\n1 0 obj <</Type /Catalog>> endobj\ntrailer <</Root 1 0 R>>\n%%EOF"
    yield "psd", b"8BPS\0\x01" + bytes(6) + struct.pack(">HIIHH", 3, 64, 64, 8, 3) + bytes(99)
    yield "icns", b"icns" + struct.pack(">I", 999) + b"ic10" + struct.pack(">I", 991) + bytes(983)
    yield "ico", saved("ICO")
    yield "wmf", b"\xd7\xcd\xc6\x9a" + bytes(40)
    yield "emf", struct.pack("<II", 1, 108) + bytes(32) + b" EMF" + bytes(64)
    yield "fits", b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800)
    yield "hdf5", b"\x89HDF\r\n\x1a\n" + bytes(99)
    yield "grib", b"GRIB" + bytes(3) + b"\x01" + bytes(99)
    yield "bufr", b"BUFR" + bytes(99)
    yield "jpeg 2000", saved("JPEG2000")
    yield "dds", saved("DDS")
    yield "tga", saved("TGA")
    yield "sgi", saved("SGI")
    yield "qoi", b"qoif" + struct.pack(">IIBB", 64, 64, 3, 0) + bytes(99)
    yield "pcx", saved("PCX")
    yield "mpeg", b"\0\0\x01\xb3" + bytes(99)
    yield "fli", bytes(4) + b"\x11\xaf" + bytes(122)
    yield "svg", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://x/'/></svg>"
    yield "html", b"<html><img src=x></html>"
    yield "nothing", b""
    yield "text", b"not a picture" * 99
    yield "zip", b"PK\x03\x04" + bytes(99)


def bombs() -> Iterator[tuple[str, bytes]]:
    """Yield files that claim more than they hold, or hold more than is read."""
    yield "png of 72 megapixels", png(9_000, 8_000, depth=1, colour=0, rows=-1)
    yield "png of 170 megapixels", png(13_000, 13_000, colour=6, rows=5)
    yield "png of 178 megapixels, deep", png(13_350, 13_350, depth=16, rows=3)
    yield "png of 2^62 pixels", png(2**31 - 1, 2**31 - 1, depth=1, colour=0, rows=0)
    yield "png cut off", png(2_000, 2_000, depth=16, colour=6, rows=9)
    yield "png of many chunks", png(9, 9, rows=-1, extra=chunk(b"aaAa", b"") * 200_000)
    texts = chunk(b"tEXt", b"k\0v") * 100_000
    yield "png of many texts", png(9, 9, rows=-1, extra=texts)
    yield (
        "jpeg of many comments",
        saved("JPEG")[:2] + b"\xff\xfe\0\x03x" * 50_000 + saved("JPEG")[2:],
    )
    yield "png without pixels", png(64, 64, rows=0)
    yield "png of no width", png(0, 9)
    yield (
        "jpeg of 65535",
        saved("JPEG").replace(struct.pack(">HH", SIDE, SIDE), struct.pack(">HH", 65535, 65535), 1),
    )
    absurd = bytearray(saved("JPEG", subsampling=0))
    absurd[absurd.index(b"\xff\xc0") + 11] = 0x4F
    yield "jpeg of absurd sampling", bytes(absurd)
    yield "gif of 65535", gif(65_535, 65_535, frame(0, 0, 9, 9))
    yield "gif with a far frame", gif(9, 9, frame(65_535, 65_535, 65_535, 65_535))
    yield "gif with a huge frame", gif(9, 9, frame(0, 0, 9_000, 8_000))
    yield "bmp of 2^31", bmp(2**31 - 1, 2**31 - 1)
    yield "bmp of 81 megapixels", bmp(9_000, 9_000)
    yield "bmp of negative size", bmp(-5, -(2**31))
    yield "bmp run lengths", bmp(3_000, 2_900, 8, 1, b"\0\x02\xff\xff" * 9_999)
    yield "tiff of 2^62 pixels", tiff(2**31, 2**31)
    yield (
        "tiff of one huge strip",
        tiff(7_000, 7_000, (278, 4, 1, 2**32 - 1), (279, 4, 1, 2**32 - 1)),
    )
    yield "tiff of 2^32 strips", tiff(64, 64, (273, 4, 2**30, 8), (279, 4, 2**30, 8))
    tiles = ((322, 4, 1, 2**30), (323, 4, 1, 2**30), (324, 4, 1, 8), (325, 4, 1, 99))
    yield "tiff of huge tiles", tiff(64, 64, *tiles)
    yield "tiff of huge packed tiles", tiff(64, 64, *tiles, (259, 3, 1, 5))
    yield "tiff of huge packed strips", tiff(7_999, 7_999, (259, 3, 1, 5), (278, 4, 1, 2**31))
    yield "tiff of 65535 channels", tiff(64, 64, (277, 3, 1, 65_535))
    yield "tiff of deep numbers", tiff(7_999, 7_999, (258, 3, 1, 64), (339, 3, 1, 3))
    yield "tiff in a circle", tiff(64, 64, following=8)
    yield "ppm of 2^62 pixels", b"P6 4611686018427387904 1 255\n"
    yield "ppm of 81 megapixels", b"P6 9000 9000 255\n" + bytes(99)
    yield "ppm of many digits", b"P6 " + b"9" * 10**6 + b" 1 255\n"
    yield "ppm of long comments", b"P3 9 9 255\n" + b"#" * 10**6
    yield "ppm cut off, in text", b"P3 7999 7999 65535\n" + b"65535 " * 10**5
    yield "ppm of strange white", b"P6 7999 7999 254\n" + bytes(10**5)
    yield "pfm of nonsense", b"Pf 7999 7999 nan\n" + bytes(99)
    lossless = saved("WEBP", lossless=True)
    begin = lossless.index(b"VP8L") + 9
    size = struct.pack("<I", 0x0FFFFFFF)
    yield "webp of 268 megapixels", lossless[:begin] + size + lossless[begin + 4 :]
    yield "webp cut off", saved("WEBP")[:60]
    yield "avif of nothing", b"\0\0\0\x20ftypavif" + bytes(20) + b"\xff\xff\xff\xffmeta" + bytes(99)


def cuts_and_flips() -> Iterator[tuple[str, bytes]]:
    """Yield valid pictures cut short, and with bytes changed."""
    rng = np.random.default_rng(7)
    for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"):
        whole = saved(name)
        for place in range(3):
            yield f"{name.lower()} cut {place}", whole[: int(rng.integers(4, len(whole)))]
        for turn in range(8):
            changed = np.frombuffer(whole, np.uint8).copy()
            places = rng.integers(8, len(changed), 1 + turn)
            changed[places] = rng.integers(0, 256, len(places))
            yield f"{name.lower()} flip {turn}", changed.tobytes()
