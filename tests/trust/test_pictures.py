"""Files that claim to be pictures, from strangers: read, or refused in one line; nothing else."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from running import ROOT
from trust.guard import Result, faults, guarded
from trust.hostile_pictures import bombs, cuts_and_flips, other_formats, valid

from ldm.data.pictures import read_picture
from ldm.data.segmentation import read_labels
from ldm.data.skipping import BadItem
from ldm.errors import UserError
from ldm.images.io import load_image
from ldm.images.metadata import read_parameters
from ldm.images.opening import KINDS
from ldm.pipelines.init_image import InitImage
from ldm.pipelines.masks import Mask

KINDS_OF_CASES = {"valid": valid, "other": other_formats, "bomb": bombs, "mutant": cuts_and_flips}


def read_in_every_way(path: Path) -> tuple[int, int]:
    """Read a file as every program would; a UserError is the same for all, so the first ends it."""
    for read in (partial(read_picture, at_least=8), read_labels):
        try:
            read(path)
        except BadItem as error:
            assert "\n" not in str(error) and len(str(error)) < 2000
    size = load_image(path).size
    read_parameters(path)
    InitImage.read(str(path))
    try:
        Mask.read(str(path))
    except UserError as error:
        assert "mask" in str(error)
    return size


def cases(folder: Path) -> Iterator[tuple[str, Callable]]:
    load_image(folder / "warm.png")  # Pillow's plugins
    for kind, made in KINDS_OF_CASES.items():
        for name, data in made():
            path = folder / f"{kind} {name}.png".replace(";", "")
            path.write_bytes(data)
            # Read once alone: five times would take the seconds that one reading may take.
            act = load_image if "near the limit" in name else read_in_every_way
            yield f"{kind}: {name}", lambda act=act, path=path: act(path) and None


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    Image.new("RGB", (8, 8)).save(folder / "warm.png")
    return guarded(__file__, folder)


def of_kind(results: dict[str, Result], kind: str) -> dict[str, Result]:
    return {name: each for name, each in results.items() if name.startswith(kind)}


def test_there_are_many(results: dict[str, Result]) -> None:
    assert len(results) >= 150
    assert all(len(of_kind(results, kind)) >= 20 for kind in KINDS_OF_CASES)


def test_each_is_read_or_refused_in_one_line(results: dict[str, Result]) -> None:
    assert not faults(results)


def test_valid_pictures_are_read(results: dict[str, Result]) -> None:
    assert not {name: each.text for name, each in of_kind(results, "valid").items() if each.error}


def test_other_formats_are_refused_with_those_that_are_read(results: dict[str, Result]) -> None:
    for name, each in of_kind(results, "other").items():
        assert KINDS in each.text, name


def test_what_has_too_many_pixels_is_told_the_flag(results: dict[str, Result]) -> None:
    told = {name for name, each in results.items() if "--max_pixels" in each.text}
    assert {f"bomb: png of {n}" for n in ("72 megapixels", "170 megapixels", "2^62 pixels")} <= told
    assert {"bomb: gif with a huge frame", "bomb: bmp of 81 megapixels"} <= told


def uses_of_image_open(path: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr == "open":
            if isinstance(node.value, ast.Name) and node.value.id in ("Image", "PIL"):
                yield node.lineno
            if isinstance(node.value, ast.Attribute) and node.value.attr == "Image":
                yield node.lineno


def test_pillow_is_let_at_files_in_one_place_only() -> None:
    folders = ("ldm", "scripts", "optimizedSD", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    users = {path.relative_to(ROOT).as_posix() for path in files if list(uses_of_image_open(path))}
    assert users == {"ldm/images/opening.py"}


def other_by_pillow(folder: Path) -> Iterator[tuple[str, Callable]]:
    """Open the other formats with Pillow itself, as gradio does, where a page's program runs."""
    from PIL import Image

    from ldm.images.pixels import tolerate_faults

    tolerate_faults()
    for name, data in [*other_formats(), *bombs(), *valid()]:
        path = folder / f"{name}.png".replace(";", "")
        path.write_bytes(data)
        yield name, lambda path=path: Image.open(path).load() and None


def test_libraries_that_open_uploads_read_no_other_formats_either(tmp_path: Path) -> None:
    results = guarded(__file__, tmp_path, cases="other_by_pillow")
    assert not [name for name, each in results.items() if each.acts]
    assert all(results[name].error == "UnidentifiedImageError" for name, _ in other_formats())
    assert results["png of 72 megapixels"].error == "DecompressionBombError"
    assert not {name: results[name] for name, _ in valid() if results[name].error}
