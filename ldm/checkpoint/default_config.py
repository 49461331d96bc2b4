"""Find the configuration beside a checkpoint, or choose Stable Diffusion's own for one without.

The shapes of two weights decide: the UNet's input channels (16 in the retrieval-augmented model)
and the text encoder's token width (768 in version 1, 1024 in version 2). Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ldm.checkpoint.names import modern
from ldm.checkpoint.peek import Shape, peek_shapes
from ldm.errors import UserError
from ldm.paths import beside, listing, other_case

YAML_NAMES = ("*.yaml", "*.yml", "config.yaml", "config.yml")
FOLDER = "configs/stable-diffusion"
V1_CONFIG = f"{FOLDER}/v1-inference.yaml"
V1_INPAINTING_CONFIG = f"{FOLDER}/v1-inpainting-inference.yaml"
V2_INPAINTING_CONFIG = f"{FOLDER}/v2-inpainting-inference.yaml"
RETRIEVAL_CONFIG = "configs/retrieval-augmented-diffusion/768x768.yaml"
_UNET = "model.diffusion_model."
_INPUT = f"{_UNET}input_blocks.0.0.weight"
_TOKENS = f"{_UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_BY_SHAPE = {
    (9, 768): V1_INPAINTING_CONFIG,
    (9, 1024): V2_INPAINTING_CONFIG,
    (16, 768): RETRIEVAL_CONFIG,
}


def own_config(ckpt: Path) -> Path | None:
    """Return the YAML beside a checkpoint or, for a link, beside its target; None without one.

    ``X.yaml`` beside ``X.ckpt`` is the web UIs' convention, ``config.yaml`` that of the CompVis
    model zoo; either may end in ``.yml``.
    """
    return next(iter(beside(ckpt, *YAML_NAMES)), None)


def find_configs(folder: str | Path) -> tuple[Path, ...]:
    """Return the YAML files that describe a folder's model, oldest first; empty if there are none.

    A run that was resumed has one for each start.
    """
    folder = Path(folder)
    projects = tuple(listing(folder / "configs", "*-project.yaml"))
    own = other_case(folder, "config.yaml") or other_case(folder, "config.yml")
    return projects or ((own,) if own else ())


def default_config(ckpt: Path) -> str:
    """Return the path, from the repository's root, of the configuration to use for a checkpoint.

    Assumes version 1 unless the weights say otherwise.

    Raises:
        UserError: Stable Diffusion 2, whose two variants have weights of the same shapes.
    """
    shapes = peek_shapes(ckpt)
    channels, width = (_shape_of(name, shapes)[1] for name in (_INPUT, _TOKENS))
    if (channels, width) == (4, 1024):
        raise UserError(
            f"{ckpt} is Stable Diffusion 2, and whether it predicts noise or v is not in the "
            f"file; expected a configuration with it; add --config {FOLDER}/v2-inference-v.yaml "
            f"for a model of 768 pixels, {FOLDER}/v2-inference.yaml for the base model of 512"
        )
    return _BY_SHAPE.get((channels, width), V1_CONFIG)


def _shape_of(name: str, shapes: Mapping[str, Shape]) -> Shape:
    """Return a weight's shape, also where something stands before all of the file's names."""
    named = {modern(own): shape for own, shape in shapes.items()}
    ends = (shape for own, shape in named.items() if own.endswith(f".{name}"))
    return named.get(name) or next(ends, (0, 0))
