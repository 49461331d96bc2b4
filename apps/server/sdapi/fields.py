"""The fields of AUTOMATIC1111's requests: understood, without effect, or not done here.

What clients always send at its default is taken at that default; any other value of a field that is
not done is refused by its name. A field that is in none of the tables is refused too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from apps.server.front.values import Fields, Unfit
from ldm.legible import quoted

_NONE, _OFF, _ZERO = ("", "None"), (False,), (0,)
Neutral = Mapping[str, tuple[tuple[Any, ...], str]]

NOT_DONE: Neutral = {
    "styles": (([],), "no styles are kept here"),
    "seed_resize_from_h": ((0, -1), "noise is drawn at the picture's own size"),
    "seed_resize_from_w": ((0, -1), "noise is drawn at the picture's own size"),
    "tiling": (_OFF, "pictures do not tile"),
    "s_min_uncond": (_ZERO, "guidance acts in every step"),
    "s_churn": (_ZERO, "samplers add no noise of their own choice"),
    "s_tmin": (_ZERO, "samplers add no noise of their own choice"),
    "s_tmax": ((0, math.inf), "samplers add no noise of their own choice"),
    "s_noise": ((1,), "samplers add no noise of their own choice"),
    "refiner_checkpoint": (_NONE, "one model is served"),
    "disable_extra_networks": (_OFF, "tags in prompts always name LoRAs"),
    "script_name": (_NONE, "no scripts are run"),
    "script_args": (([],), "no scripts are run"),
    "infotext": (("",), "settings are read from the other fields"),
}
"""What is taken at these values only, and why no other."""

NO_EFFECT = (
    "do_not_save_samples",
    "do_not_save_grid",
    "refiner_switch_at",
    "comments",
    "force_task_id",
)
"""What is taken at any value: it changes no picture, or only with what is refused."""

TEXT_NOT_DONE: Neutral = {
    "firstpass_image": ((), "the first pass draws its own"),
}
SECOND_PASS = (
    "denoising_strength",
    "hr_scale",
    "hr_upscaler",
    "hr_second_pass_steps",
)
"""What is done of the second pass, see ``second_pass``; without ``enable_hr`` of no effect."""
SECOND_NOT_DONE: Neutral = {
    "hr_resize_x": (_ZERO, "the second pass has a multiple of the size; use hr_scale"),
    "hr_resize_y": (_ZERO, "the second pass has a multiple of the size; use hr_scale"),
    "hr_checkpoint_name": ((*_NONE, "Use same checkpoint"), "one model is served"),
    "hr_sampler_name": ((*_NONE, "Use same sampler"), "both passes have one sampler"),
    "hr_scheduler": ((*_NONE, "Use same scheduler"), "both passes have one schedule"),
    "hr_prompt": (("",), "both passes have one prompt"),
    "hr_negative_prompt": (("",), "both passes have one prompt"),
    "hr_additional_modules": (([], ["Use same choices"]), "one model is served"),
}
"""What is not, where ``enable_hr`` is set; the last is what Forge has besides."""
TEXT_NO_EFFECT = ("firstphase_width", "firstphase_height", "hr_cfg")

IMAGE_NOT_DONE: Neutral = {
    "initial_noise_multiplier": ((1,), "noise has its own strength"),
    "latent_mask": ((), "masks are pictures here; send it as mask"),
    "mask_round": ((True,), "masks are black and white"),
}
IMAGE_NO_EFFECT = ("image_cfg_scale",)
"""For models that edit by instructions, which are not served."""


def check_not_done(fields: Fields, further: Neutral) -> None:
    """Check that nothing is asked for that is not done here.

    Raises:
        Unfit: Something is; the message names it.
    """
    for name, (allowed, why) in {**NOT_DONE, **further}.items():
        fields.only(name, allowed, why)
    for name, script in fields.mapping("alwayson_scripts").items():
        if not _is_idle(script):
            raise Unfit(
                f"alwayson_scripts {quoted(name)} is not supported: no extensions run here; "
                "expected {}; leave it out",
                "alwayson_scripts",
            )


def _is_idle(script: Any) -> bool:
    """Return whether an extension is only told that it has nothing to do."""
    arguments = script.get("args") if isinstance(script, Mapping) else None
    if not isinstance(arguments, list):
        return False
    if not arguments or arguments[0] is False:
        return True
    return all(isinstance(each, Mapping) and each.get("enabled") is False for each in arguments)
