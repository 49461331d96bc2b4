"""From a request's fields to settings: which fields there are, and that none names a file.

A request sets what ``OPEN`` lists. All else of the schema is the operator's (``CLOSED``): what
names files and folders, what holds for the whole process, what only a program needs. Adapters and
networks go by the names of those in models/lora, models/embeddings, models/upscalers and
models/faces. Imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.server.settings import ServerSettings
from ldm.errors import UserError
from ldm.images.embed import encodable
from ldm.legible import quoted
from ldm.pipelines.adapter_files import (
    EMBEDDINGS,
    LORAS,
    Shelf,
    find_adapter,
    find_named,
    lora_file,
)
from ldm.pipelines.networks import FACE_RESTORERS, HIRES_UPSCALERS
from ldm.settings.adapters import read_lora
from ldm.settings.generation import GenerationSettings, Img2ImgSettings, Txt2ImgSettings
from ldm.settings.inpaint import LowMemoryInpaintSettings
from ldm.settings.low_memory import (
    LowMemoryImg2ImgSettings,
    LowMemoryTxt2ImgSettings,
    WeightedPrompts,
)
from ldm.settings.mistyped import alike, same_elsewhere
from ldm.settings.option import Option, changed, one_of, options_of

_OPEN = """
prompt negative_prompt prompt_lang prompt_syntax clip_skip emphasis plain_prompt
sampler ddim_steps spacing ddim_eta scale seed n_samples n_iter H W strength lora embedding
reuse merge_tokens guidance_interval guidance_rescale zero_terminal_snr freeu batch_cfg
hires hires_steps hires_upscaler hires_strength restore_faces face_fidelity
only_masked mask_blur invert_mask fill outpaint subseed subseed_strength
"""
_FILES = """
from_file from_image wildcards glossary translator outdir config ckpt init_img mask control
image_encoder decoder laion400m trust_config face_detector
"""
_OPERATORS = """
max_pixels use_ema device precision kernels compile graphs attention_backend vram_budget turbo
unet_bs safety_checker watermark
"""
# What goes with a file, and what only a program does.
_PROGRAMS = """
control_mode hint_only box skip_grid skip_save format n_rows fixed_code seed_mode C f decode_beside
"""
_FIXED = """
wildcards glossary translator use_ema precision kernels compile graphs attention_backend
safety_checker max_pixels
"""
OPEN = frozenset(_OPEN.split())
CLOSED = frozenset(f"{_FILES} {_OPERATORS} {_PROGRAMS}".split())
_LARGEST_NUMBER = 2**64
FIXED = tuple(_FIXED.split())
"""What the operator's flags set in every job."""


@dataclass(frozen=True, kw_only=True)
class TextJob(LowMemoryTxt2ImgSettings):
    """Settings of a picture from text; the size may be left to the model, the seed to chance."""

    plain_prompt: bool = changed(WeightedPrompts, "plain_prompt", default=True)
    sampler: str = changed(Txt2ImgSettings, "sampler")
    n_samples: int = changed(Txt2ImgSettings, "n_samples", default=1)
    watermark: str = changed(Txt2ImgSettings, "watermark")
    kernels: str = changed(Txt2ImgSettings, "kernels")


@dataclass(frozen=True, kw_only=True)
class PictureJob(LowMemoryImg2ImgSettings):
    """Settings of a picture from a picture, which may be resized."""

    plain_prompt: bool = changed(WeightedPrompts, "plain_prompt", default=True)
    n_samples: int = changed(Img2ImgSettings, "n_samples", default=1)
    kernels: str = changed(Img2ImgSettings, "kernels")


@dataclass(frozen=True, kw_only=True)
class MaskJob(LowMemoryInpaintSettings):
    """Settings of repainting a part of a picture."""

    plain_prompt: bool = changed(WeightedPrompts, "plain_prompt", default=True)
    n_samples: int = changed(Img2ImgSettings, "n_samples", default=1)
    kernels: str = changed(Img2ImgSettings, "kernels")


JOBS = (TextJob, PictureJob, MaskJob)


def fixed_by(server: ServerSettings) -> dict[str, Any]:
    """Return the settings that an operator's flags fix for every job, by name."""
    fixed = {name: getattr(server, name) for name in FIXED}
    if server.wildcards is not None:  # whole, so that no answer shows it
        fixed["wildcards"] = os.path.abspath(server.wildcards)
    if server.watermark is not None:
        fixed["watermark"] = server.watermark
    return fixed


def settings_of(
    fields: Mapping[str, Any],
    schema: type[GenerationSettings] = TextJob,
    fixed: Mapping[str, Any] | None = None,
) -> GenerationSettings:
    """Return the settings that a request's fields say.

    Args:
        fields: By the settings' names, as JSON has them.
        schema: Of what kind of job.
        fixed: Those of ``fixed_by``.

    Raises:
        UserError: A field is unknown, closed, of the wrong kind or out of range, or an adapter is
            not there.
    """
    options = {each.name: each for each in options_of(schema)}
    values = {name: _value(name, value, schema, options) for name, value in fields.items()}
    settings = schema(**{**(fixed or {}), **values})
    settings.validate()
    check_shelves(settings)
    return settings


def _value(
    name: str, value: Any, schema: type[GenerationSettings], options: Mapping[str, Option]
) -> Any:
    if name in CLOSED:
        raise UserError(
            f"the field {name} was given; expected none, as the server's operator decides that; "
            "leave it out"
        )
    if name not in OPEN or name not in options:
        raise _unknown(name, schema)
    option = options[name]
    if option.several:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{option.flag} was given no list; expected a list of texts; change it")
        value = tuple(value)
    for text in value if option.several else (value,):
        _check_letters(name, text)
    if option.kind is float and type(value) is int and abs(value) > _LARGEST_NUMBER:
        raise UserError(f"{option.flag} {quoted(value)} was given; {option.expected}; change it")
    option.check(value)
    return float(value) if option.kind is float and value is not None else value


def _check_letters(name: str, value: Any) -> None:
    """Refuse half a letter, which JSON can say and no file can hold."""
    if isinstance(value, str) and encodable(value) != value:
        raise UserError(f"{name} holds half of a letter; expected whole ones; change it")


def _unknown(name: str, schema: type[GenerationSettings]) -> UserError:
    offered = [each for each in options_of(schema) if each.name in OPEN]
    near = same_elsewhere(name, offered) or alike(f"--{name}", [each.flag for each in offered])
    there = any(each.name == name for job in JOBS for each in options_of(job))
    if there and name in OPEN:
        hint = "it goes with a picture to start from; leave it out"
    elif near:
        hint = f"did you mean {near.removeprefix('--')}?"
    else:
        hint = f"there are {one_of(sorted(each.name for each in offered), 'and')}"
    return UserError(f"the field {quoted(name)} is unknown here; {hint}")


def check_shelves(settings: GenerationSettings) -> None:
    """Check that adapters are named by what lies on the server's shelves, never by a path.

    Raises:
        UserError: One is not.
    """
    for text in settings.lora:
        _check_on_shelf(LORAS, read_lora(text).file)
    for name in settings.embedding:
        _check_on_shelf(EMBEDDINGS, name)
    if (network := getattr(settings, "hires_network", None)) is not None:
        _check_on_shelf(HIRES_UPSCALERS, network)
    if settings.restore_faces is not None:
        _check_on_shelf(FACE_RESTORERS, settings.restore_faces)


def _check_on_shelf(shelf: Shelf, name: str) -> None:
    found = find_named(shelf, name)
    if lora_file(find_adapter(shelf, name)) != lora_file(found):
        raise UserError(
            f"{shelf.flag} {quoted(name)} was given; expected the name of {shelf.one} in "
            f"{shelf.folder}, with its ending left out; change it"
        )
