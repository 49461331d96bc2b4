"""Whatever the header of a safetensors file says, it is read as the file's numbers or refused."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from trust.guard import faults, guarded
from trust.opcodes import COUNT, PAYLOAD, checked

from ldm import budgets

WHOLE = {"dtype": "F32", "shape": [COUNT], "data_offsets": [0, 4 * COUNT]}


def file(header: str | bytes, length: int | None = None, payload: bytes = PAYLOAD) -> bytes:
    """A file with a header as it is given, and its length or another."""
    text = header if isinstance(header, bytes) else header.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text) if length is None else length) + text + payload


def headed(metadata: Any = None, **tensors: Any) -> bytes:
    return file(json.dumps({**({"__metadata__": metadata} if metadata else {}), **tensors}))


def entry(**changes: Any) -> dict[str, Any]:
    return {**WHOLE, **changes}


LONG = "9" * 5000
SHAPES = {
    "larger": [COUNT + 1],
    "negative": [-COUNT],
    "two negative": [-8, -8],
    "beyond 64 bits": [2**70],
    "a product beyond 64 bits": [2**40, 2**40],
    "empty beside long": [0, 2**62],
    "fractions": [64.0],
    "texts": ["64"],
    "nested": [[64]],
    "no list": 64,
    "null": None,
    "many axes": [1] * 100_000,
}
OFFSETS = {
    "beyond the file": [0, 4 * COUNT + 4],
    "backwards": [4 * COUNT, 0],
    "negative": [-4, 4 * COUNT - 4],
    "beyond 64 bits": [0, 2**65],
    "with a hole": [4, 4 * COUNT],
    "one": [0],
    "three": [0, 1, 2],
    "none": [],
    "texts": ["0", "256"],
    "wrapping": [2**64 - 4, 4],
}
HEADERS = {
    **{f"a shape: {name}": headed(w=entry(shape=shape)) for name, shape in SHAPES.items()},
    **{f"offsets: {name}": headed(w=entry(data_offsets=at)) for name, at in OFFSETS.items()},
    "a type that is not": headed(w=entry(dtype="F31")),
    "a type of another size": headed(w=entry(dtype="F64")),
    "a type of signs that act": headed(w=entry(dtype="\x1b[31m\x07")),
    "a type of great length": headed(w=entry(dtype="F" * 10**6)),
    "no type": headed(w={"shape": [COUNT], "data_offsets": [0, 256]}),
    "a tensor that is a number": headed(w=3),
    "a tensor that is a text": headed(w="x"),
    "a tensor over another": headed(v=WHOLE, w=WHOLE),
    "a name twice": file(json.dumps({"w": WHOLE})[:-1] + ', "w": ' + json.dumps(WHOLE) + "}"),
    "a name of great length": headed(**{"n" * 10**6: entry(shape=[3])}),
    "a name with signs that act": headed(**{"\x1b]0;x\x07\u202e\x00": entry(shape=[3])}),
    "a name that is half a sign": file('{"\\ud800": ' + json.dumps(WHOLE) + "}"),
    "no name": headed(**{"": WHOLE}),
    "no tensor": headed(),
    "metadata of numbers": headed({"global_step": 12}, w=WHOLE),
    "metadata in metadata": headed({"a": {"b": "c"}}, w=WHOLE),
    "metadata that is a list": file(json.dumps({"__metadata__": ["x"], "w": WHOLE})),
    "a step of many digits": headed({"global_step": LONG}, w=WHOLE),
    "a step of other digits": headed({"global_step": "²"}, w=WHOLE),
    "a step of Arabic digits": headed({"global_step": "١٢"}, w=WHOLE),
    "a step of great length": headed({"global_step": "1" * 10**6}, w=WHOLE),
    "metadata with signs that act": headed({"modelspec.title": "\x1b[2J\x00\u202e"}, w=WHOLE),
    "metadata that names code": headed({"config": "os.system", "target": "os.system"}, w=WHOLE),
    "metadata of great length": headed({"note": "x" * 10**6}, w=WHOLE),
    "many metadata": headed({str(n): "x" for n in range(100_000)}, w=WHOLE),
    "a number of many digits": file('{"w": {"dtype": "F32", "shape": [' + LONG + "]}}"),
    "deep brackets": file('{"w": ' + "[" * 400_000 + "]" * 400_000 + "}"),
    "deep braces": file('{"w":' * 100_000),
    "unclosed brackets": file("{" + "[" * 10**6),
    "an unclosed text": file('{"' + "x" * 10**6),
    "a hundred thousand tensors": headed(**{f"w{n}": entry(shape=[0]) for n in range(100_000)}),
    "no JSON": file("{this is no JSON at all, only a brace}"),
    "no UTF-8": file(b"{\xff\xfe" + bytes(40)),
    "spaces": file('{"w": ' + json.dumps(WHOLE) + "}" + " " * 10**6),
    "NaN": file('{"w": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 256]}}'),
    "1e999": file('{"w": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 256]}}'),
    "a length beyond the file": file("{}", 10**6),
    "a length of 64 bits": file("{}", 2**64 - 1),
    "a length of nothing": file("{", 0),
    "a length that cuts": file(json.dumps({"w": WHOLE}), 20),
    "a header beyond its budget": file("{" + " " * budgets.SAFETENSORS_HEADER, None, b""),
    "no bytes behind it": file(json.dumps({"w": WHOLE}), payload=b""),
    "too few bytes behind it": file(json.dumps({"w": WHOLE}), payload=PAYLOAD[:-1]),
    "too many bytes behind it": file(json.dumps({"w": WHOLE}), payload=PAYLOAD * 2),
}


def cases(folder: Path) -> Iterator[tuple[str, Callable]]:
    import safetensors.torch  # noqa: F401 - before the guard is up

    import ldm.checkpoint.io  # noqa: F401

    good = {"good": headed({"format": "pt"}, w=WHOLE), "19280 bytes": padded(19280)}
    for number, (name, data) in enumerate({**HEADERS, **good}.items()):
        path = folder / f"{number}.safetensors"
        path.write_bytes(data)
        yield name, partial(checked, path)


def padded(length: int) -> bytes:
    """A header whose length, as it is written, begins as a zip does: "PK"."""
    return file(json.dumps({"w": WHOLE}).ljust(length))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return guarded(__file__, tmp_path_factory.mktemp("headers"))


def test_no_header_reads_beside_its_file_or_takes_long(results):
    assert len(HEADERS) >= 60
    assert not faults(results)


def test_good_headers_are_read(results):
    assert results["good"].value == COUNT
    assert results["19280 bytes"].value == COUNT


@pytest.mark.parametrize("name", ["a shape: larger", "offsets: beyond the file", "deep brackets"])
def test_forged_headers_are_refused(results, name):
    assert results[name].error == "UserError"
