"""Pickles written opcode by opcode, and the files of torch.save around them."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

# Numbers that no memory holds by chance: what is loaded is looked for among them.
COUNT = 64
PAYLOAD = b"".join(struct.pack("<f", 1000.5 + n) for n in range(COUNT))
MARK = b"("
STOP = b"."


def number(value: int) -> bytes:
    """A whole number of any size."""
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def value(given: object) -> bytes:
    """A plain value, or bytes that are opcodes already."""
    if isinstance(given, bytes):
        return given
    return pickle.dumps(given, protocol=2)[2:-1]


def several(*items: object) -> bytes:
    """A tuple."""
    return MARK + b"".join(map(value, items)) + b"t"


def named(module: str, name: str) -> bytes:
    return b"c" + f"{module}\n{name}\n".encode()


def called(module: str, name: str, *arguments: object) -> bytes:
    return named(module, name) + several(*arguments) + b"R"


def mapping(**items: object) -> bytes:
    return b"}" + MARK + b"".join(text(k) + value(v) for k, v in items.items()) + b"u"


def storage(kind: str = "FloatStorage", key: object = "0", count: object = COUNT, *view: object):
    """A storage as a persistent identity; ``view`` is None in files of the old format."""
    return several("storage", named("torch", kind), key, "cpu", count, *view) + b"Q"


def tensor(
    size: object = (4,), stride: object = (1,), offset: object = 0, stored: bytes | None = None
) -> bytes:
    stored = STORED if stored is None else stored
    hooks = called("collections", "OrderedDict")
    return called("torch._utils", "_rebuild_tensor_v2", stored, offset, size, stride, False, hooks)


# Stands for the storage of the file's own format; put in place by ``files``.
STORED = b"\0the file's storage\0"


def files(program: bytes, folder: Path, name: str) -> dict[str, Path]:
    """Write a pickle into a zip and into a file of the old format, each with one storage."""
    whole = program if program.startswith(b"\x80") else b"\x80\x04" + program + STOP
    paths = {"zip": folder / f"{name}.ckpt", "old": folder / f"{name}.pt"}
    paths["zip"].write_bytes(zipped({"data.pkl": whole.replace(STORED, storage())}))
    paths["old"].write_bytes(old(whole.replace(STORED, storage("FloatStorage", "0", COUNT, None))))
    return paths


def zipped(records: dict[str, bytes], *, prefix: str = "archive/", payload: bytes = PAYLOAD):
    """A zip as torch writes it, with the storage "0"."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name, data in {**records, "data/0": payload}.items():
            archive.writestr(prefix + name, data)
    return made.getvalue()


def old(program: bytes, *, keys: object = ("0",), counts: tuple[int, ...] = (COUNT,)) -> bytes:
    """A file as torch wrote before 1.6."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    parts = [pickle.dumps(part, protocol=2) for part in head]
    parts += [program, pickle.dumps(list(keys), protocol=2)]
    parts += [struct.pack("<q", count) + PAYLOAD for count in counts]
    return b"".join(parts)


def checked(path: Path) -> int:
    """Read a checkpoint; return how many numbers it holds, all of them the file's own.

    Raises:
        AssertionError: A number is not among those in the file, so it was read beside it.
        UserError: As ``read_checkpoint``.
    """
    import torch

    from ldm.checkpoint.io import read_checkpoint
    from ldm.checkpoint.peek import peek_shapes

    shapes, numbers = peek_shapes(path), 0
    for name, each in read_checkpoint(path).tensors.items():
        assert name not in shapes or shapes[name] == tuple(each.shape)
        size, found = each.element_size(), each.contiguous().view(-1).view(torch.uint8)
        numbers += each.numel()
        own = {PAYLOAD[at : at + size] for at in range(0, len(PAYLOAD), size)}
        found = found.numpy().tobytes()
        assert {found[at : at + size] for at in range(0, len(found), size)} <= own, name
    return numbers
