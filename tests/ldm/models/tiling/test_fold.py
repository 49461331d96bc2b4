"""Fold and unfold under the reference's names, and forks that weigh patches themselves."""

from __future__ import annotations

import pytest
import torch
from tiny_model import CONFIG

from ldm.errors import UserError
from ldm.models.diffusion.ddpm import LatentDiffusion
from ldm.models.tiling.fold import SlidingWindow
from ldm.models.tiling.patches import SplitInput, blend

PARAMS = {
    "ks": (8, 6),
    "stride": (4, 3),
    "vqf": 2,
    "patch_distributed_vq": True,
    "tie_braker": False,
    "clip_min_weight": 0.01,
    "clip_max_weight": 0.5,
    "clip_min_tie_weight": 0.01,
    "clip_max_tie_weight": 0.5,
}


def window(**changes) -> SlidingWindow:
    made = SlidingWindow()
    made.split_input_params = {**PARAMS, **changes}
    return made


@pytest.mark.parametrize("tie_braker", [False, True])
@pytest.mark.parametrize("sizes", [{}, {"uf": 2}, {"uf": 3}, {"df": 2}])
def test_patches_put_together_are_the_map(tie_braker, sizes):
    scale = sizes.get("uf", 1) / sizes.get("df", 1)
    x = torch.randn(2, 3, 16, 12)
    cut = window(tie_braker=tie_braker)
    fold, unfold, normalization, weights = cut.get_fold_unfold(x, (8, 6), (4, 2), **sizes)
    patches = unfold(x).view(2, 3, 8, 6, -1)  # (B, C, kh, kw, L)
    assert patches.shape[-1] == 12 and torch.equal(patches[..., 5], x[..., 4:12, 2:8])
    if scale != 1:
        nearest = [
            torch.nn.functional.interpolate(p, scale_factor=scale) for p in patches.unbind(-1)
        ]
        patches = torch.stack(nearest, dim=-1)
        x = torch.nn.functional.interpolate(x, scale_factor=scale)
    assert weights.shape == (1, 1, *patches.shape[2:])
    whole = fold((patches * weights).flatten(1, 3)) / normalization
    torch.testing.assert_close(whole, x)


def test_growing_and_shrinking_at_once_is_refused():
    with pytest.raises(UserError, match="one of them to be 1"):
        window().get_fold_unfold(torch.zeros(1, 1, 8, 8), (4, 4), (4, 4), uf=2, df=2)


def test_weights_grow_from_the_edge_and_patches_tie_by_their_place():
    plain = window().get_weighting(5, 9, 2, 3, "cpu")
    assert plain.shape == (1, 45, 6)
    one = plain[0, :, 0].view(5, 9)
    assert (one[0] == 0.01).all() and (one[:, 0] == 0.01).all() and one[2, 4] == 0.5
    assert torch.equal(one, one.flip(0)) and torch.equal(one, one.flip(1))
    assert torch.equal(plain, one.reshape(1, 45, 1).repeat(1, 1, 6))
    tied = window(tie_braker=True).get_weighting(5, 9, 3, 3, "cpu")
    middle, corner = tied[0, :, 4], tied[0, :, 0]
    torch.testing.assert_close(middle, 0.5 * one.flatten())
    torch.testing.assert_close(corner, 0.01 * one.flatten())


def test_distances_and_places_of_elements():
    cut = window()
    assert cut.meshgrid(2, 3).tolist() == [[[0, 0], [0, 1], [0, 2]], [[1, 0], [1, 1], [1, 2]]]
    assert cut.delta_border(3, 5).tolist() == [[0.0] * 5, [0, 0.25, 0.5, 0.25, 0], [0.0] * 5]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0.25, 0.5, 0.25, 0.25), (0.0, 0.5, 0.5, 0.5)),
        ((0.5, 0.75, 0.5, 0.5), (0.5, 1.0, 0.5, 0.0)),
        ((0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0)),
    ],
)
def test_boxes_are_moved_into_a_crop_and_cut_off(box, expected):
    crop = (0.25, 0.25, 0.5, 0.5)
    assert window()._rescale_annotations([box], crop) == [expected]


@pytest.mark.parametrize("size", [(16, 12), (15, 13), (8, 6)])
@pytest.mark.parametrize("tie_braker", [False, True])
def test_the_hub_s_patches_have_these_weights(size, tie_braker):
    """In the last patch, which ends with the map, only where it overlaps the one before."""
    x, split = torch.randn(1, 2, *size), SplitInput.of({**PARAMS, "tie_braker": tie_braker})
    marked = iter(range(100))
    plain = blend(lambda p, w: torch.full_like(p, float(next(marked))), x, split)
    marked = iter(range(100))
    own = window(tie_braker=tie_braker).get_weighting
    again = blend(lambda p, w: torch.full_like(p, float(next(marked))), x, split, weighting=own)
    assert torch.equal(plain, again)


class FirstOnly(LatentDiffusion):
    """Weighs all patches but the first by next to nothing."""

    def get_weighting(self, h, w, Ly, Lx, device):
        weights = super().get_weighting(h, w, Ly, Lx, device)
        self.asked = [*getattr(self, "asked", []), (h, w, Ly, Lx)]
        weights[..., 1:] *= 1e-6
        return weights


class Flat(LatentDiffusion):
    """Takes every element of a patch as near to its edge as any other."""

    def delta_border(self, h, w):
        self.asked = [*getattr(self, "asked", []), (h, w)]
        return torch.full((h, w), 0.3)


def hub(cls) -> LatentDiffusion:
    torch.manual_seed(0)
    model = cls(**CONFIG["model"]["params"]).eval()
    torch.nn.init.normal_(model.model.diffusion_model.out[2].weight, std=0.1)
    model.split_input_params = {**PARAMS, "ks": (8, 8), "stride": (4, 4)}
    return model


@torch.no_grad()
def test_a_fork_s_own_weights_are_obeyed_in_the_unet():
    model, x, t = hub(FirstOnly), torch.randn(1, 4, 8, 12), torch.tensor([500])
    c = model.get_learned_conditioning(["a"])
    out = model.apply_model(x, t, c)
    assert model.asked == [(8, 8, 1, 2)]
    del model.split_input_params
    torch.testing.assert_close(out[..., :8], model.apply_model(x[..., :8], t, c), atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_fork_s_own_weights_are_obeyed_in_the_first_stage():
    model, z = hub(FirstOnly), torch.randn(1, 4, 8, 12)
    picture = model.decode_first_stage(z)
    assert model.asked == [(16, 16, 1, 2)]
    model.encode_first_stage(picture)
    assert model.asked[-1] == (4, 4, 3, 5)
    del model.split_input_params
    left = model.decode_first_stage(z[..., :8])
    torch.testing.assert_close(picture[..., :16], left, atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_fork_s_own_distance_is_obeyed():
    model, x, t = hub(Flat), torch.randn(1, 4, 8, 12), torch.tensor([500])
    out = model.apply_model(x, t, model.get_learned_conditioning(["a"]))
    assert model.asked == [(8, 8)]
    whole, edges = hub(LatentDiffusion), (slice(None), slice(None), slice(None), slice(4, 8))
    usual = whole.apply_model(x, t, whole.get_learned_conditioning(["a"]))
    assert not torch.equal(out[edges], usual[edges])


def test_the_reference_s_own_note_in_the_parameters_is_accepted():
    noted = SplitInput.of({**PARAMS, "original_image_size": torch.Size([32, 32])})
    assert noted.ks == (8, 6)
