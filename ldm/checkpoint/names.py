"""Interpret the names in a checkpoint: components, EMA copies, ballast, older spellings."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TypeVar

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

UNET, VAE, TEXT = "UNet", "VAE", "text encoder"
EMA, SCHEDULE, LOSS, OTHER = "EMA", "schedule", "training loss", "other"
COMPONENTS = (UNET, VAE, TEXT, SCHEDULE, EMA, LOSS, OTHER)

EMA_PREFIX = "model_ema."
EMA_STATE = (f"{EMA_PREFIX}decay", f"{EMA_PREFIX}num_updates")

PREFIXES = (
    (EMA_PREFIX, EMA),
    ("first_stage_model.loss.", LOSS),
    ("loss.", LOSS),
    ("model.diffusion_model.", UNET),
    ("first_stage_model.", VAE),
    ("cond_stage_model.", TEXT),
    # The network alone; an autoencoder alone.
    ("diffusion_model.", UNET),
    ("encoder.", VAE),
    ("decoder.", VAE),
    ("quant_conv.", VAE),
    ("post_quant_conv.", VAE),
    ("quantize.", VAE),
)
SCHEDULE_BUFFERS = frozenset(
    {
        "betas",
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "log_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
        "posterior_variance",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
        "lvlb_weights",
    }
)

_TRANSFORMER = "cond_stage_model.transformer."
_TEXT_MODEL = f"{_TRANSFORMER}text_model."
# Written by tools that ran with a transformers release whose text model has no inner text_model.
OLDER_SPELLINGS = {
    f"{_TRANSFORMER}{part}": f"{_TEXT_MODEL}{part}"
    for part in ("embeddings.", "encoder.", "final_layer_norm.")
}
# Modules that torch and DeepSpeed put around a network, at the start of a name or within it.
_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_forward_module"
    r"|_checkpoint_wrapped_module)\."
)
# diffusers' names for the autoencoder's attention, of before and since its release 0.17.
VAE_ATTENTION = {
    "group_norm": "norm",
    "query": "q",
    "key": "k",
    "value": "v",
    "proj_attn": "proj_out",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
_VAE_ATTENTION = re.compile(
    rf"(?<=\.)(mid\.attn_1|attn\.\d+)\.({'|'.join(map(re.escape, VAE_ATTENTION))})(?=\.)"
)
# Constants that older libraries saved with the weights.
CONSTANTS = ("embeddings.position_ids", "attn_mask")
PERCEPTUAL = "loss.perceptual_loss."  # never trained; the family's files name its layers otherwise


def component_of(name: str) -> str:
    """Return the component that a checkpoint key belongs to.

    >>> component_of("model.diffusion_model.out.2.weight"), component_of("betas")
    ('UNet', 'schedule')
    """
    if name in SCHEDULE_BUFFERS:
        return SCHEDULE
    return next((part for prefix, part in PREFIXES if name.startswith(prefix)), OTHER)


def ema_name(name: str) -> str:
    """Return the name of a weight's moving average: below ``model``, without dots.

    >>> ema_name("model.diffusion_model.out.2.weight")
    'model_ema.diffusion_modelout2weight'
    """
    return EMA_PREFIX + name.removeprefix("model.").replace(".", "")


def is_ballast(name: str) -> bool:
    """Check whether inference never needs a key: losses, constants, optimizer state."""
    return (
        component_of(name) == LOSS
        or name.endswith(CONSTANTS)
        or name.startswith(("optimizer", "lr_scheduler"))
    )


def modern(name: str) -> str:
    """Return a key's current name, without the modules that torch puts around a network.

    >>> modern("cond_stage_model.transformer.final_layer_norm.bias")
    'cond_stage_model.transformer.text_model.final_layer_norm.bias'
    >>> modern("module.first_stage_model.decoder.mid.attn_1.to_q.weight")
    'first_stage_model.decoder.mid.attn_1.q.weight'
    """
    name = unwrapped(name)
    for old, new in OLDER_SPELLINGS.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return _VAE_ATTENTION.sub(lambda found: f"{found[1]}.{VAE_ATTENTION[found[2]]}", name)


def unwrapped(name: str) -> str:
    """Return a key without the modules that torch and DeepSpeed put around a network.

    >>> unwrapped("module.model.diffusion_model._orig_mod.out.2.weight")
    'model.diffusion_model.out.2.weight'
    """
    name = _WRAPPERS.sub("", name)
    # The names of averages have lost their dots.
    return name.replace("_orig_mod", "") if name.startswith(EMA_PREFIX) else name


def by_modern_name(names: Iterable[str]) -> dict[str, str]:
    """Map each key's current name to the key; of two spellings of a key the current one wins."""
    present = list(names)
    older = {modern(name): name for name in present}
    return older | {name: name for name in present if modern(name) == name}


def family_state(own: Mapping[str, Value], given: Mapping[str, Value]) -> dict[str, Value]:
    """Return a state dict without what the family stores in vain, for strict loading.

    Left out are keys that the model has no use for: ``logvar``, position ids, schedule buffers,
    averages and losses if it keeps none, other names of the frozen perceptual network. A constant
    of the model that the file omits, and that network, are taken from ``own``. Everything else
    stays, so that ``strict=True`` refuses it as ever.

    Args:
        own: The model's ``state_dict()``.
        given: The file's; not modified. Its ``_metadata`` is kept.
    """
    kept_parts = {_family_part(name) for name in own}
    vain = {n: None for n in given if n not in own and _is_in_vain(n, kept_parts)}
    if vain:
        shown = ", ".join(list(vain)[:3]) + (", ..." if len(vain) > 3 else "")
        logger.info("%d keys of the state dict are not used: %s", len(vain), shown)
    kept = OrderedDict((name, value) for name, value in given.items() if name not in vain)
    omitted = (name for name in own if name not in given and _is_constant(name))
    kept.update((name, own[name]) for name in omitted)
    if hasattr(given, "_metadata"):
        kept._metadata = given._metadata
    return kept


def _family_part(name: str) -> tuple[bool, str]:
    """Return whether a key is the first stage's within a hub, and its component there."""
    inner = name.removeprefix("first_stage_model.")
    return inner != name, component_of(inner)


def _is_constant(name: str) -> bool:
    return name.endswith(CONSTANTS) or PERCEPTUAL in name


def _is_in_vain(name: str, kept_parts: set[tuple[bool, str]]) -> bool:
    if name.rpartition(".")[2] == "logvar" or _is_constant(name):
        return True
    _, part = place = _family_part(name)
    return part == SCHEDULE or (part in (EMA, LOSS) and place not in kept_parts)


def by_component(names: Iterable[str]) -> dict[str, list[str]]:
    """Group names by component, in the order of ``COMPONENTS``; empty components are left out."""
    groups: dict[str, list[str]] = {part: [] for part in COMPONENTS}
    for name in names:
        groups[component_of(name)].append(name)
    return {part: group for part, group in groups.items() if group}


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Guess from names and shapes what a file is, when it is not the expected kind.

    Args:
        shapes: Key to tensor shape; an empty one where it is not known.

    Returns:
        A few words such as "Stable Diffusion 2", or None for an ordinary v1 checkpoint.
    """
    for pattern, words in _FAMILIES:
        if any(re.match(pattern, name) for name in shapes):
            return words
    if shapes and all("." not in n and len(shape) in (1, 2) for n, shape in shapes.items()):
        return "a textual inversion: words for a text encoder"
    entry = shapes.get("model.diffusion_model.input_blocks.0.0.weight", ())
    return _BY_CHANNELS.get(entry[1]) if len(entry) == 4 else None


# How some key begins -> what holds such keys; the first that fits decides.
_FAMILIES = (
    (r"conditioner\.embedders\.", "Stable Diffusion XL"),
    (r"cond_stage_model\.model\.", "Stable Diffusion 2"),
    (r"(model\.diffusion_model\.)?joint_blocks\.", "Stable Diffusion 3"),
    (r"(model\.diffusion_model\.)?double_blocks\.", "FLUX"),
    (r"control_model\.|input_hint_block\.", "a ControlNet"),
    (r"controlnet_cond_embedding\.", "a ControlNet in diffusers' layout"),
    (r"lora_(unet|te\d?)_|.*\.lora(_[A-Z]|_up|_down|_embedding\w*)?\.|.*\.(hada|lokr)_", "a LoRA"),
    (r"(ip_adapter|image_proj)\.", "an IP-Adapter"),
    (r".*motion_modules\.", "a motion module of AnimateDiff"),
    (r"stylegan_decoder\.", "a restorer of faces"),
    (r"conv_first\.|body\.\d+\.rdb|model\.1\.sub\.", "an upscaler of pictures"),
    (r"input_blocks\.", "a UNet alone"),
    (r"down_blocks\.", "a UNet in diffusers' layout"),
    (r"encoder\.down_blocks\.", "an autoencoder in diffusers' layout"),
    (r"encoder\.down\.", "an autoencoder alone"),
    (r"(transformer\.)?text_model\.", "a text encoder alone"),
    (r"vision_model\.", "CLIP's encoder of pictures alone"),
    (r"emb_params$|string_to_(param|token)\b", "a textual inversion: words for a text encoder"),
)
_BY_CHANNELS = {
    5: "a depth-conditioned model",
    8: "an InstructPix2Pix model",
    9: "an inpainting model",
}
