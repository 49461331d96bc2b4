"""Read AUTOMATIC1111's requests: what of them is drawn, from which pictures, in which settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from apps.server.asking import MaskJob, PictureJob, TextJob
from apps.server.front.pictures import picture_in_field
from apps.server.front.values import Fields, Unfit, about, wrong
from apps.server.front.wish import Wish
from apps.server.sdapi import fields as tables
from apps.server.sdapi.area import RESIZES, read_mask, resized
from apps.server.sdapi.faces import read_faces
from apps.server.sdapi.options import Model, Options
from apps.server.sdapi.second_pass import read_second_pass
from apps.server.sdapi.walks import read_walk
from ldm.images.pixels import over
from ldm.pipelines.only_masked import Repaint
from ldm.settings.generation import GenerationSettings
from optimizedSD.web.limits import Limits

_HIGHEST_SCALE = 100.0
_WIDEST_BLUR = 64  # pixels
_FILLS = ("fill", "original", "latent noise", "latent nothing")
_LATENTS = {"latent noise": "noise", "latent nothing": "nothing"}
"""What is done with latents, and the word for it here."""


@dataclass(frozen=True)
class Setting:
    """What requests are read with.

    Attributes:
        model: The one that is served.
        size: The side that it was made for, in pixels: where a request names none.
        multiple: What sides have to be multiples of.
        limits: What one request may ask for.
        options: Those of the key.
        make: Makes settings of fields and the kind of job; raises UserError.
    """

    model: Model
    size: int
    multiple: int
    limits: Limits
    options: Options
    make: Callable[[Mapping[str, Any], type], GenerationSettings]


def read_txt2img(values: Mapping[str, Any], setting: Setting) -> Wish:
    """Read a request for pictures from text.

    Raises:
        Unfit: A field is unknown, not done here, or cannot have its value.
    """
    fields = Fields(values)
    tables.check_not_done(fields, tables.TEXT_NOT_DONE)
    fields.ignore(tables.TEXT_NO_EFFECT)
    common, options, ignored = _common(fields, setting)
    width, height = _size(fields, setting)
    second = read_second_pass(fields, setting.limits.steps)
    fields.close()
    settings = _settings({**common, **second, "W": width, "H": height}, TextJob, setting)
    return Wish(settings, format=options.format, ignored=tuple(ignored))


def read_img2img(values: Mapping[str, Any], setting: Setting) -> Wish:
    """Read a request for pictures from a picture, or for a part of it to be painted anew.

    Raises:
        Unfit: As ``read_txt2img``, or a picture cannot be used.
    """
    fields = Fields(values)
    tables.check_not_done(fields, tables.IMAGE_NOT_DONE)
    fields.ignore((*tables.IMAGE_NO_EFFECT, "include_init_images"))
    common, options, ignored = _common(fields, setting)
    common["strength"] = fields.number("denoising_strength", 0.75, low=0.0, high=1.0)
    size = _size(fields, setting)
    mode = fields.whole("resize_mode", 0, low=0, high=len(RESIZES) - 1)
    repainting = _repainting(fields)
    sent, masked = fields.raw("init_images"), fields.raw("mask")
    fields.close()
    image = _init_image(sent)
    said: dict[str, Any] = {"format": options.format, "ignored": tuple(ignored)}
    if masked is None:
        settings = _settings(common, PictureJob, setting)
        return Wish(settings, resized(image, size, mode), **said)
    mask = read_mask(picture_in_field(masked, "mask"))
    work = repainting.work(image, mask, size, mode)
    given, marked = work.parts()
    said |= {"entries": repainting.entries, "part": work.soft}
    if repainting.alters:
        said |= {"finish": work.finish, "further": work.picture.width * work.picture.height}
    if (filling := _LATENTS.get(_FILLS[repainting.fill])) is not None:
        common["fill"] = filling
    return Wish(_settings(common, MaskJob, setting), given, marked, **said)


def _settings(values: Mapping[str, Any], job: type, setting: Setting) -> GenerationSettings:
    with about(None):
        return setting.make(values, job)


@dataclass(frozen=True)
class Repainting:
    """What a request says about its mask."""

    blur: int
    fill: int
    only_marked: bool
    padding: int
    inverted: bool

    def work(
        self, image: Image.Image, mask: Image.Image, size: tuple[int, int], mode: int
    ) -> Repaint:
        """Return the work: the area around what is marked, or the picture at the drawn size."""
        if self.inverted:
            mask = mask.point([255] * 128 + [0] * 128)
        if mask.size != image.size:
            mask = mask.resize(image.size, Image.Resampling.NEAREST)
        if not self.only_marked:
            image, mask = resized(image, size, mode), resized(mask, size, mode)
            mask = mask.point([0] * 128 + [255] * 128)
        with about("mask"):
            work = Repaint.of(image, mask, self.blur)
        if self.only_marked:
            work = work.only_marked(self.padding, size)
        return replace(work, fill=self.fill == 0)

    @property
    def alters(self) -> bool:
        """Whether the finished picture is another than what is drawn."""
        return self.only_marked or self.blur > 0

    @property
    def entries(self) -> dict[str, str]:
        """What AUTOMATIC1111 writes of it into a picture's recipe."""
        area = "Only masked" if self.only_marked else "Whole picture"
        said = {"Inpaint area": area, "Masked content": _FILLS[self.fill]}
        said |= {"Mask blur": str(self.blur)} if self.blur else {}
        said |= {"Masked area padding": str(self.padding)} if self.only_marked else {}
        return said | ({"Mask mode": "Inpaint not masked"} if self.inverted else {})


def _repainting(fields: Fields) -> Repainting:
    across, down = (fields.whole(f"mask_blur_{a}", 4, low=0, high=_WIDEST_BLUR) for a in "xy")
    blur = fields.whole("mask_blur", across, low=0, high=_WIDEST_BLUR)
    if across != down and not fields.given("mask_blur"):
        raise Unfit(
            f"mask_blur_x {across} and mask_blur_y {down} were given; expected equal ones; "
            "give mask_blur",
            "mask_blur_x",
        )
    fill = fields.whole("inpainting_fill", 0, low=0, high=len(_FILLS) - 1)
    return Repainting(
        blur,
        fill,
        fields.truth("inpaint_full_res", True),
        fields.whole("inpaint_full_res_padding", 0, low=0, high=10_000),
        bool(fields.whole("inpainting_mask_invert", 0, low=0, high=1)),
    )


def _init_image(sent: Any) -> Image.Image:
    """Return the picture to start from, RGB; transparent parts are white, as in A1111's."""
    if not isinstance(sent, list) or len(sent) != 1:
        given = f"{len(sent)} pictures" if isinstance(sent, list) else "no list"
        raise Unfit(
            f"init_images has {given}; expected a list of one picture; send one request for each",
            "init_images",
        )
    return over(picture_in_field(sent[0], "init_images"), "white")


def _size(fields: Fields, setting: Setting) -> tuple[int, int]:
    """Return the width and height to draw."""
    most = {"multiple": setting.multiple, "most": setting.limits.side}
    width = fields.side("width", setting.size, **most)
    return width, fields.side("height", setting.size, **most)


def _common(fields: Fields, setting: Setting) -> tuple[dict[str, Any], Options, list[str]]:
    """Read what all requests for pictures share: settings by name, options, what is ignored."""
    fields.ignore((*tables.NO_EFFECT, "send_images"))
    options = _options(fields, setting)
    walk, ignored = read_walk(fields)
    if fields.truth("save_images", False):
        ignored.append("save_images: no pictures are kept on the server")
    limits = setting.limits
    seed = fields.seed(limits.pictures)
    per_iteration = fields.whole("batch_size", 1, low=1, high=limits.pictures)
    iterations = fields.whole("n_iter", 1, low=1, high=limits.pictures)
    if per_iteration * iterations > limits.pictures:
        raise wrong("batch_size", per_iteration, f"at most {limits.pictures} pictures with n_iter")
    return (
        {
            **walk,
            "prompt": fields.text("prompt", most=limits.prompt),
            "negative_prompt": fields.text("negative_prompt", most=limits.prompt),
            "prompt_syntax": "a1111",
            "clip_skip": options.clip_skip,
            "emphasis": options.emphasis,
            "ddim_steps": fields.whole("steps", min(50, limits.steps), low=1, high=limits.steps),
            "scale": fields.number("cfg_scale", 7.0, low=0.0, high=_HIGHEST_SCALE),
            "seed": seed,
            **_variation(fields, limits.pictures),
            **read_faces(fields, options.faces),
            "n_samples": per_iteration,
            "n_iter": iterations,
        },
        options,
        ignored,
    )


def _variation(fields: Fields, pictures: int) -> dict[str, Any]:
    strength = fields.number("subseed_strength", 0.0, low=0.0, high=1.0)
    if strength == 0.0:
        fields.ignore(("subseed",))
        return {}
    return {"subseed": fields.seed(pictures, "subseed"), "subseed_strength": strength}


def _options(fields: Fields, setting: Setting) -> Options:
    """Return the options of the key with those that are given for this request."""
    changes = fields.mapping("override_settings")
    restores = fields.truth("override_settings_restore_afterwards", True)
    if changes and not restores:
        raise Unfit(
            "override_settings_restore_afterwards false was given; override_settings hold for one "
            "request; expected true; leave it out, or use /sdapi/v1/options",
            "override_settings_restore_afterwards",
        )
    return Options.read(changes, setting.options, setting.model)
