"""Read OpenAI's requests for pictures: what of them is drawn, in which settings.

Beside OpenAI's fields some of ours are read, where a client sends them (``extra_body`` in OpenAI's
own): ``seed``, ``negative_prompt``, ``steps``, ``guidance_scale``, and ``strength`` for edits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from apps.server.asking import MaskJob, PictureJob, TextJob
from apps.server.front.values import Fields, Unfit, about, wrong
from apps.server.front.wish import Wish
from apps.server.openai_api.errors import NO_MODEL
from apps.server.pictures import picture_of
from apps.server.service import Service
from ldm.images.transparency import over

VARIATION_STRENGTH = 0.6
"""How much of a picture its variations change."""
EDIT_STRENGTH = 0.75
"""How much an edit changes of a picture in which nothing is transparent."""
FORMATS = {"png": "png", "jpeg": "jpg"}
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_LONGEST_WORD, _MOST_PICTURES, _HIGHEST_SCALE = 200, 10, 100.0
_TRANSPARENT = 128  # alpha below it

NOT_DONE: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "quality": (("auto", "standard"), "steps say how carefully it is drawn"),
    "style": ((), "the prompt says how it looks"),
    "background": (("auto", "opaque"), "pictures have no transparent parts"),
    "moderation": (("auto",), "the server's operator decides that"),
    "output_compression": ((100,), "it is not chosen"),
    "partial_images": ((0,), "pictures are sent when they are finished"),
    "stream": ((False,), "pictures are sent when they are finished"),
    "input_fidelity": (("low",), "strength says how much is changed"),
}
"""What is taken at these values only, and why no other."""
NO_EFFECT = ("user", "safety_identifier")


@dataclass(frozen=True)
class Reply:
    """How pictures are sent.

    Attributes:
        format: Of the files: a key of ``FORMATS``.
        as_address: Whether as ``data:`` addresses, else as base64 alone.
    """

    format: str
    as_address: bool


def read_generation(values: Mapping[str, Any], service: Service) -> tuple[Wish, Reply]:
    """Read a request for pictures from text.

    Raises:
        Unfit: A field is unknown, not done here, or cannot have its value.
    """
    fields = Fields(values)
    given = {**_common(fields, service), "prompt": _prompt(fields, service)}
    return _wish(fields, service, given, TextJob)


def read_edit(
    texts: Mapping[str, str], files: Mapping[str, Sequence[bytes]], service: Service
) -> tuple[Wish, Reply]:
    """Read a request for a picture to be changed where it, or its mask, is transparent.

    Raises:
        Unfit: As ``read_generation``, or a picture cannot be used.
    """
    fields = Fields(texts, typed=False)
    given = {**_common(fields, service), "prompt": _prompt(fields, service)}
    _check_files(texts, files, ("image", "mask"))
    image = _file(files, "image")
    mask = _transparent(_file(files, "mask")) if files.get("mask") else _transparent(image)
    if mask is None and files.get("mask"):
        raise Unfit(
            "mask has no transparent part; expected a PNG that is transparent where to paint; "
            "erase that part of it",
            "mask",
        )
    usual = EDIT_STRENGTH if mask is None else 1.0
    given["strength"] = fields.number("strength", usual, low=0.0, high=1.0)
    job = PictureJob if mask is None else MaskJob
    return _wish(fields, service, given, job, image=over(image, "white"), mask=mask)


def read_variation(
    texts: Mapping[str, str], files: Mapping[str, Sequence[bytes]], service: Service
) -> tuple[Wish, Reply]:
    """Read a request for variations of a picture; raises as ``read_edit``."""
    fields = Fields(texts, typed=False)
    given = {"scale": 1.0, **_common(fields, service), "prompt": ""}
    _check_files(texts, files, ("image",))
    image = over(_file(files, "image"), "white")
    return _wish(
        fields, service, {**given, "strength": VARIATION_STRENGTH}, PictureJob, image=image
    )


def _wish(
    fields: Fields, service: Service, given: dict[str, Any], job: type, **pictures: Any
) -> tuple[Wish, Reply]:
    """Return the wish, once all fields have been read, and how its pictures are sent."""
    shape = fields.choice("response_format", "b64_json", ("b64_json", "url"))
    kind = fields.choice("output_format", "png", FORMATS)
    fields.close()
    with about(None, service.hidden):
        settings = service.settings(given, job)
    wish = Wish(settings, format=FORMATS[kind], part=pictures.get("mask"), **pictures)
    return wish, Reply(kind, shape == "url")


def _common(fields: Fields, service: Service) -> dict[str, Any]:
    """Return the settings that all requests may name, by their own names."""
    for name, (allowed, why) in NOT_DONE.items():
        fields.only(name, allowed, why)
    fields.ignore(NO_EFFECT)
    _check_model(fields, service)
    limits = service.limits
    count = fields.whole("n", 1, low=1, high=min(_MOST_PICTURES, limits.pictures))
    given: dict[str, Any] = {
        "n_samples": count,
        "n_iter": 1,
        "seed": fields.seed(count),
        "negative_prompt": fields.text("negative_prompt", most=limits.prompt),
        **_size(fields, service),
    }
    if fields.given("steps"):
        given["ddim_steps"] = fields.whole("steps", 1, low=1, high=limits.steps)
    if fields.given("guidance_scale"):
        given["scale"] = fields.number("guidance_scale", 1.0, low=0.0, high=_HIGHEST_SCALE)
    return given


def _check_model(fields: Fields, service: Service) -> None:
    own = service.choice.name
    named = fields.text("model", own, most=_LONGEST_WORD)
    if named not in ("", own):
        raise Unfit(
            f"model {named!r} was given; expected {own!r}, the model that is served; leave it out",
            "model",
            NO_MODEL,
        )


def _prompt(fields: Fields, service: Service) -> str:
    if not fields.given("prompt"):
        raise Unfit("prompt was not given; expected a text; say what to draw", "prompt")
    return fields.text("prompt", most=service.limits.prompt)


def _size(fields: Fields, service: Service) -> dict[str, int]:
    """Return the size that is named; none is the model's own, or that of the picture."""
    named = fields.text("size", "auto", most=_LONGEST_WORD)
    if named == "auto":
        return {}
    found = _SIZE.fullmatch(named)
    if found is None:
        raise wrong("size", named, "auto, or width x height as 512x512")
    sides = Fields({"size": int(found[1]), "height": int(found[2])})
    given = {"multiple": service.choice.multiple, "most": service.limits.side}
    try:
        return {"W": sides.side("size", 1, **given), "H": sides.side("height", 1, **given)}
    except Unfit as error:
        raise Unfit(f"size {named}: {error}", "size") from error


def _check_files(
    texts: Mapping[str, str], files: Mapping[str, Sequence[bytes]], names: Sequence[str]
) -> None:
    for name in names:
        if name in texts:
            raise Unfit(
                f"{name} is a text; expected a file (addresses and paths are never opened); "
                "send the picture itself",
                name,
            )
    if others := sorted(files.keys() - set(names)):
        raise wrong("the file", others[0], f"files named {' and '.join(names)}")


def _file(files: Mapping[str, Sequence[bytes]], name: str) -> Image.Image:
    """Return the one picture of a name, upright; its transparency is kept."""
    sent = files.get(name, ())
    if len(sent) != 1:
        raise Unfit(f"{len(sent)} files named {name} were sent; expected one", name)
    with about(name):
        return picture_of(sent[0], name)


def _transparent(image: Image.Image) -> Image.Image | None:
    """Return where a picture is transparent, in white (L); None where it is not."""
    if not image.has_transparency_data:
        return None
    alpha = image.convert("RGBA").getchannel("A")
    marked = alpha.point([255] * _TRANSPARENT + [0] * (256 - _TRANSPARENT))
    return marked if marked.getbbox() else None
