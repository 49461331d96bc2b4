"""Custom Diffusion's kind of fork: get_input returns more, losses are masked, layers patched."""

from __future__ import annotations

import pytest
import torch
from descendants.exercise import (
    assert_pictures,
    batch_of,
    build_hub,
    changed,
    drawn,
    fit,
    hub_config,
    items,
    weights_of,
)

PLAIN = "ldm.models.diffusion.ddpm.LatentDiffusion"
MASK = {"mask": (16, 16, 1)}


def config(**changes):
    return hub_config("descendants.forks.custom_diffusion.CustomLDM", **changes)


def data(count=4):
    return [{**item, "mask": (item["mask"] > 0).float()} for item in items(count, **MASK)]


def test_patched_layers_attend_as_ours_do_and_each_is_asked():
    fork, ours = build_hub(config()).eval(), build_hub(hub_config(PLAIN)).eval()
    ours.load_state_dict(fork.state_dict(), strict=False)
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([3, 900])
    with torch.no_grad():
        c = ours.get_learned_conditioning(["a", "b"])
        out = fork.apply_model(x, t, c)
        torch.testing.assert_close(out, ours.apply_model(x, t, c), rtol=0, atol=1e-5)
    layers = [name for name in fork.state_dict() if name.endswith("to_q.weight")]
    assert fork.attended == len(layers) > 4


def test_keys_and_values_of_cross_attention_alone_learn_under_the_mask():
    model = build_hub(config())
    before = weights_of(model)
    trainer = fit(model, data())
    moved = changed(model, before)
    assert moved
    assert all("attn2.to_k" in name or "attn2.to_v" in name for name in moved)
    assert {"train/loss_simple_step", "train/loss_vlb_epoch", "train/loss_step"} <= set(
        trainer.logged_metrics
    )


def test_the_mask_reaches_the_loss():
    model = build_hub(config()).eval()

    def loss(fill):
        torch.manual_seed(0)
        batch = batch_of(data(2))
        return float(model.shared_step({**batch, "mask": fill(batch["mask"])})[0].detach())

    everywhere = loss(torch.ones_like)
    assert loss(lambda mask: mask) != everywhere
    torch.manual_seed(0)
    x, c, _ = model.get_input(batch_of(data(2)), "jpg")
    plain = model.p_losses(x, c, model.draw_steps(2))[0]
    assert everywhere == pytest.approx(float(plain.detach()))


def test_an_overridden_weighting_blends_the_patches():
    def seams(border):
        model = build_hub(config(border=border)).eval()
        split = {"ks": (4, 4), "stride": (2, 2), "vqf": 2, "patch_distributed_vq": True}
        limits = {"clip_max_weight": 1.0, "clip_min_weight": 0.01, "tie_braker": False}
        ties = {"clip_max_tie_weight": 0.5, "clip_min_tie_weight": 0.01}
        model.split_input_params = {**split, **limits, **ties}
        torch.manual_seed(0)
        with torch.no_grad():
            return model.decode_first_stage(torch.randn(1, 4, 8, 8))

    assert not torch.equal(seams(0.0), seams(1.0))


def test_it_samples_and_shows_pictures():
    model = build_hub(config()).eval()
    batch = batch_of(data(2))
    _, c, mask = model.get_input(batch, "jpg")
    assert mask.shape == (2, 1, 8, 8)
    assert drawn(model, c, unconditional_guidance_scale=3.0, unconditional_conditioning=c * 0).std()
    log = model.log_images(batch, N=2, ddim_steps=2, plot_progressive_rows=False)
    assert_pictures(log, "inputs", "reconstruction", "conditioning", "samples")
