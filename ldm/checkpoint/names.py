"""Interpret the names in a checkpoint: components, EMA copies, ballast, older spellings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
# Constants that older libraries saved with the weights.
CONSTANTS = ("embeddings.position_ids", "attn_mask")


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
    """Return a key's current name.

    >>> modern("cond_stage_model.transformer.final_layer_norm.bias")
    'cond_stage_model.transformer.text_model.final_layer_norm.bias'
    """
    for old, new in OLDER_SPELLINGS.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def by_modern_name(names: Iterable[str]) -> dict[str, str]:
    """Map each key's current name to the key; of two spellings of a key the current one wins."""
    present = list(names)
    older = {modern(name): name for name in present}
    return older | {name: name for name in present if modern(name) == name}


def by_component(names: Iterable[str]) -> dict[str, list[str]]:
    """Group names by component, in the order of ``COMPONENTS``; empty components are left out."""
    groups: dict[str, list[str]] = {part: [] for part in COMPONENTS}
    for name in names:
        groups[component_of(name)].append(name)
    return {part: group for part, group in groups.items() if group}


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Guess from names and shapes what a file is, when it is not the expected kind.

    Args:
        shapes: Key to tensor shape.

    Returns:
        A few words such as "Stable Diffusion 2", or None for an ordinary v1 checkpoint.
    """
    for start, words in _FAMILIES:
        if any(name.startswith(start) for name in shapes):
            return words
    entry = shapes.get("model.diffusion_model.input_blocks.0.0.weight", ())
    return _BY_CHANNELS.get(entry[1]) if len(entry) == 4 else None


_FAMILIES = (
    ("conditioner.embedders.", "Stable Diffusion XL"),
    ("cond_stage_model.model.", "Stable Diffusion 2"),
    ("control_model.", "a ControlNet"),
    ("lora_unet_", "a LoRA"),
    ("lora_te_", "a LoRA"),
    ("down_blocks.", "a UNet in diffusers' layout"),
    ("encoder.down_blocks.", "an autoencoder in diffusers' layout"),
    ("encoder.down.", "an autoencoder alone"),
    ("text_model.", "a text encoder alone"),
)
_BY_CHANNELS = {
    5: "a depth-conditioned model",
    8: "an InstructPix2Pix model",
    9: "an inpainting model",
}
