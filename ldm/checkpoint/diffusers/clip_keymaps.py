"""Rename a whole CLIP model's weights from transformers' CLIPModel to OpenAI's and open_clip's.

Covers both towers: the text tower at the root, the image tower below ``visual.``. No function
modifies its input.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ldm.checkpoint.diffusers.text_keymaps import OPEN_CLIP_PREFIX, open_clip_from_transformers

State = dict[str, Tensor]

TEXT, VISION = "text_model.", "vision_model."
VISION_ENDS = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm.weight": "ln_pre.weight",
    "pre_layrnorm.bias": "ln_pre.bias",
    "post_layernorm.weight": "ln_post.weight",
    "post_layernorm.bias": "ln_post.bias",
}
# transformers has Linear layers here; OpenAI and open_clip have matrices multiplied from the right.
PROJECTIONS = {
    "text_projection.weight": "text_projection",
    "visual_projection.weight": "visual.proj",
}


def clip_model_from_transformers(state: Mapping[str, Tensor]) -> State:
    """Rename a CLIPModel's weights to open_clip's names; names that are open_clip's already stay.

    Args:
        state: Weights of one or both towers, by either's names.

    Raises:
        UserError: A tower has a weight that open_clip's towers lack.
    """
    if not any(name.startswith((TEXT, VISION)) for name in state):
        return dict(state)
    text = {name: value for name, value in state.items() if name.startswith(TEXT)}
    vision = {
        name.removeprefix(VISION): value
        for name, value in state.items()
        if name.startswith(VISION) and not name.endswith("position_ids")
    }
    blocks = {name: value for name, value in vision.items() if name not in VISION_ENDS}
    named = {
        k.removeprefix(OPEN_CLIP_PREFIX): v for k, v in open_clip_from_transformers(text).items()
    }
    for name, value in open_clip_from_transformers(blocks).items():
        named[f"visual.{name.removeprefix(OPEN_CLIP_PREFIX)}"] = value
    for theirs, ours in VISION_ENDS.items():
        if theirs in vision:
            named[f"visual.{ours}"] = vision[theirs]
    for theirs, ours in PROJECTIONS.items():
        if theirs in state:
            named[ours] = state[theirs].mT
    if "logit_scale" in state:
        named["logit_scale"] = state["logit_scale"]
    return named
