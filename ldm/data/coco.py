"""Read object boxes from a COCO annotation file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from ldm.data.skipping import logger
from ldm.errors import UserError

Row = tuple[float, float, float, float, float]
"""Category from 0, left, top, right, bottom in pixels."""


@dataclass
class Annotated:
    """A picture's file name, relative to the pictures' folder, and its objects."""

    name: str
    objects: list[Row] = field(default_factory=list)


def read_coco(path: Path) -> tuple[list[str], list[Annotated]]:
    """Read an annotation file.

    Returns:
        The categories' names in the order of their identifiers, which is how they are numbered, and
        the pictures that have objects, sorted by name.

    Raises:
        UserError: It is not a COCO annotation file, or no picture has an object.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        named = {entry["id"]: entry["name"] for entry in content["categories"]}
        pictures = {entry["id"]: Annotated(entry["file_name"]) for entry in content["images"]}
        objects = content["annotations"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read as COCO annotations ({type(error).__name__}: {error}); "
            "expected JSON with images, annotations and categories; check the file"
        ) from error
    numbers = {identifier: number for number, identifier in enumerate(sorted(named))}
    bad = sum(not _add(entry, pictures, numbers) for entry in objects)
    if bad:
        logger.warning("%s: %d of %d annotations are left out: no box", path, bad, len(objects))
    found = sorted((p for p in pictures.values() if p.objects), key=lambda p: p.name)
    if not found:
        raise UserError(f"{path} has no picture with an object; expected boxes; check the file")
    return [named[identifier] for identifier in sorted(named)], found


def _add(entry: dict, pictures: dict[int, Annotated], numbers: dict[int, int]) -> bool:
    """Add an object to its picture; return whether it has a box, a picture and a category."""
    try:
        x, y, width, height = map(float, entry["bbox"])
        number, picture = numbers[entry["category_id"]], pictures[entry["image_id"]]
    except (KeyError, TypeError, ValueError):
        return False
    if not (width > 0 and height > 0):
        return False
    picture.objects.append((number, x, y, x + width, y + height))
    return True
