"""CLIP score, arXiv:2104.08718: how well pictures match their captions.

The mean of 100 max(cos(text, picture), 0), without the paper's factor of 2.5, as is usual today.
A caption is the prompt in the picture's own metadata, or comes from a file of captions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from ldm.data.picture_set import PictureSet, in_batches
from ldm.errors import UserError
from ldm.images.brackets import read_json
from ldm.images.metadata import parse_parameters, read_parameters
from ldm.legible import quoted
from ldm.paths import file_fault
from ldm.pipelines.clip import PictureEncoder, TextEncoder

EXPECTED = 'expected {"name.png": "caption", ...}, or name, a tab and the caption on each line'


def read_captions(path: str | Path) -> dict[str, str]:
    """Read captions by the pictures' names: a JSON object, or lines of name, tab, caption.

    Raises:
        UserError: the file is neither.
    """
    path = Path(path)
    if fault := file_fault(path):
        raise UserError(f"--captions {path} cannot be read (it {fault}); {EXPECTED}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--captions {path} cannot be read ({error}); {EXPECTED}") from error
    if text.lstrip().startswith("{"):
        return _from_json(path, text)
    captions = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name, tab, caption = line.partition("\t")
        if not line.strip():
            continue
        if not tab:
            raise UserError(f"--captions {path}: line {number} has no tab; {EXPECTED}; correct it")
        captions[name] = caption
    return captions


def _from_json(path: Path, text: str) -> dict[str, str]:
    try:
        captions = read_json(text)
    except ValueError as error:
        raise UserError(f"--captions {path} is damaged JSON ({error}); {EXPECTED}") from error
    wrong = [name for name, caption in captions.items() if not isinstance(caption, str)]
    if wrong:
        raise UserError(
            f"--captions {path}: {quoted(wrong[0])} has no text; {EXPECTED}; correct it"
        )
    return captions


def captions_of(pictures: PictureSet, captions: Mapping[str, str] | None) -> dict[str, str]:
    """Return the caption of each picture that has one, by name.

    Args:
        pictures: The set.
        captions: By name, with or without folder and extension; None reads the pictures' metadata.

    Raises:
        UserError: no picture has a caption.
    """
    found = {}
    for name in pictures.names:
        caption = _own(pictures.folder / name) if captions is None else _given(name, captions)
        if caption:
            found[name] = caption
    if not found:
        where = "in its file" if captions is None else "in the captions' file"
        raise UserError(
            f"{pictures.flag} {pictures.folder}: no picture has a caption {where}; expected "
            "pictures as these programs save them, or captions by name; give --captions FILE"
        )
    return found


def _own(path: Path) -> str | None:
    try:
        text = read_parameters(path)
    except UserError:  # reported with the unreadable pictures
        return None
    return parse_parameters(text)[0] if text else None


def _given(name: str, captions: Mapping[str, str]) -> str | None:
    path = PurePosixPath(name)
    # Tools that write captions disagree with cameras on the case of endings.
    endings = (path.suffix, path.suffix.lower(), path.suffix.upper(), "")
    named = [path.with_suffix(ending) for ending in endings]
    keys = [name, path.name, *map(str, named), *(each.name for each in named)]
    return next((captions[key] for key in keys if key in captions), None)


def clip_scores(
    pictures: PictureSet,
    captions: Mapping[str, str],
    encoders: tuple[TextEncoder, PictureEncoder],
    batch_size: int,
    progress: Callable[[int], None] = lambda _: None,
) -> list[float]:
    """Return the score of each captioned picture that can be read, 0 to 100.

    Args:
        pictures: The set.
        captions: By name.
        encoders: CLIP's two towers.
        batch_size: Pictures at a time.
        progress: Called with the number of pictures just done.

    Raises:
        UserError: no picture can be read.
    """
    texts, towers = encoders
    scores: list[float] = []
    for batch in in_batches(pictures.read(captions), batch_size):
        names, images = zip(*batch, strict=True)
        likeness = (texts([captions[name] for name in names]).cpu() * towers(images)).sum(1)
        scores += (100.0 * likeness.clamp(min=0)).tolist()
        progress(len(batch))
    pictures.require_readable()
    return scores
