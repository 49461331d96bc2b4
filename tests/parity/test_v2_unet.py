"""The UNet in Stable Diffusion 2's form computes what diffusers' does from the same weights."""

from __future__ import annotations

import pytest
import torch
from golden.fill import official_state
from parity.peers import UNET, WIDTHS, relative_error

from ldm.checkpoint.diffusers.keymaps import unet_to_diffusers
from ldm.modules.diffusionmodules.openaimodel import UNetModel

# As wide as a tenth of version 2, with heads of one width and so of different number by level.
HEAD_WIDTH = 16
V2 = {
    **{name: value for name, value in UNET.items() if name != "num_heads"},
    "num_head_channels": HEAD_WIDTH,
    "use_linear_in_transformer": True,
}


@pytest.fixture(scope="module", params=[None, 5], ids=["without classes", "with classes"])
def twins(request):
    """Both networks, and the class labels that they take; the upscaler of version 2 has some."""
    diffusers = pytest.importorskip("diffusers")
    config = {**V2, "num_classes": request.param}
    ours = UNetModel(**config).eval()
    ours.load_state_dict(official_state(ours, prefix="model.diffusion_model."))
    theirs = diffusers.UNet2DConditionModel(
        sample_size=UNET["image_size"],
        in_channels=4,
        out_channels=4,
        block_out_channels=WIDTHS,
        down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        layers_per_block=UNET["num_res_blocks"],
        cross_attention_dim=UNET["context_dim"],
        attention_head_dim=[width // HEAD_WIDTH for width in WIDTHS],  # numbers of heads
        use_linear_projection=True,
        num_class_embeds=request.param,
    ).eval()
    weights = ours.state_dict()
    labels = weights.pop("label_emb.weight", None)
    theirs_state = unet_to_diffusers(weights, config)
    if labels is not None:
        theirs_state["class_embedding.weight"] = labels
    theirs.load_state_dict(theirs_state, strict=True)
    return ours, theirs, None if request.param is None else torch.tensor([1, 4])


@pytest.mark.parametrize(("h", "w"), [(8, 8), (16, 24)])
@torch.no_grad()
def test_predictions_equal_diffusers(twins, h, w):
    ours, theirs, y = twins
    generator = torch.Generator().manual_seed(0)
    x, context = (torch.randn(2, *s, generator=generator) for s in ((4, h, w), (77, 64)))
    t = torch.tensor([1, 981])
    expected = theirs(x, t, encoder_hidden_states=context, class_labels=y).sample
    # The same float32 arithmetic in another order: 1e-6 is what the kernels leave.
    assert relative_error(ours(x, t, context=context, y=y), expected) < 1e-5
