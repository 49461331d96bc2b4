"""Answers in AUTOMATIC1111's form: pictures in base64, and about them a text of JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse

from apps.server.front.drawing import Finished
from apps.server.front.wish import Wish
from apps.server.sdapi.options import Model
from apps.server.tickets import Ticket
from ldm.images.metadata import parse_parameters
from ldm.settings.samplers import SAMPLERS

_PICTURES = ("init_images", "mask")
_LIMITED = ("prompt", "negative_prompt", *_PICTURES)  # elsewhere, or as bodies are
_MOST_ECHOED = 2**13  # characters of another field


class AsciiJson(JSONResponse):
    """JSON in ASCII: what is quoted of requests and files may hold halves of characters."""

    def render(self, content: Any) -> bytes:
        """Return an answer's bytes."""
        return json.dumps(content).encode("ascii")


def answer(
    values: Mapping[str, Any], wish: Wish, pictures: list[Finished], ticket: Ticket, model: Model
) -> dict[str, Any]:
    """Return the answer to txt2img and img2img.

    Args:
        values: The request's fields as ``echo_of`` returns them, which are sent back.
        wish: What was read from them.
        pictures: The finished ones.
        ticket: The job.
        model: What drew.
    """
    sends = values.get("send_images") is not False
    return {
        "images": [base64.b64encode(each.data).decode() for each in pictures] if sends else [],
        "parameters": dict(values),
        "info": json.dumps(_info(wish, pictures, ticket, model)),
    }


def echo_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is sent back of a request's fields: no pictures, unless they are wanted.

    It is kept until the pictures are drawn, so a field that may have any value is None where it is
    long.
    """
    hidden = () if values.get("include_init_images") else _PICTURES
    return {
        name: None if name in hidden else _echoed(value, name in _LIMITED)
        for name, value in values.items()
    }


def _echoed(value: Any, any_length: bool) -> Any:
    """Return a value that was sent, or None if JSON cannot say it: 1e999 is read as infinity."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    except ValueError:
        return None
    return value if any_length or len(text) <= _MOST_ECHOED else None


def _info(wish: Wish, pictures: list[Finished], ticket: Ticket, model: Model) -> dict[str, Any]:
    settings, seen = wish.settings, ticket.snapshot()
    seeds, count = [each.seed for each in pictures], len(pictures)
    others = [settings.seeds(k)["subseed"] for k in range(count)] if settings.is_varied else []
    width, height = pictures[0].size if pictures else (0, 0)
    prompts, negatives = [settings.prompt] * count, [settings.negative_prompt] * count
    if settings.wildcards is not None and pictures:  # each picture has its own
        prompts, negatives, _ = zip(
            *(parse_parameters(p.parameters) for p in pictures), strict=True
        )
    return {
        "prompt": (*prompts, settings.prompt)[0],
        "all_prompts": list(prompts),
        "negative_prompt": (*negatives, settings.negative_prompt)[0],
        "all_negative_prompts": list(negatives),
        "seed": settings.seed,
        "all_seeds": seeds,
        "subseed": others[0] if others else settings.seed,
        "all_subseeds": others or seeds,
        "subseed_strength": settings.subseed_strength,
        "width": width,
        "height": height,
        "sampler_name": SAMPLERS[settings.sampler].label,
        "cfg_scale": settings.scale,
        "steps": settings.ddim_steps,
        "batch_size": settings.n_samples,
        "restore_faces": settings.restore_faces is not None,
        "face_restoration_model": settings.restore_faces,
        "sd_model_name": model.name,
        "sd_model_hash": model.hash,
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": getattr(settings, "strength", None),
        "extra_generation_params": dict(wish.entries),
        "index_of_first_image": 0,
        "infotexts": [each.parameters for each in pictures],
        "styles": [],
        "job_timestamp": "0",
        "clip_skip": settings.clip_skip,
        "is_using_inpainting_conditioning": False,
        "version": "ldm",
        "ignored": list(wish.ignored),
        "notices": [*seen.notices, *dict.fromkeys(each.notice for each in pictures if each.notice)],
        "interrupted": seen.state == "cancelled",
    }
