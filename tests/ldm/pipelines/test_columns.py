"""Several prompts in one walk, each computed as if it were drawn alone."""

from __future__ import annotations

import pytest
import torch
from narrow_models import narrow_config, narrow_model

from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.modules.attention_control.moments import Row, rows_of_call
from ldm.pipelines.columns import ColumnModel, ColumnNoise, ColumnSampler, taken
from ldm.rng import GlobalNoise, PerImageNoise
from ldm.settings.samplers import SAMPLERS


@pytest.fixture(scope="module")
def model():
    return narrow_model(narrow_config("v1")).eval()


class Recording:
    """A model that remembers what it is called with, and which rows it is told of."""

    def __init__(self):
        self.calls = []
        self.num_timesteps = 7

    def apply_model(self, x, t, cond):
        self.calls.append((x, t, cond, rows_of_call(len(x), 4, ("uncond", "cond"))))
        return x + 1


def test_a_model_is_called_with_the_rows_of_one_prompt_after_another():
    recorded = Recording()
    columns = ColumnModel(recorded, columns=2, pictures=2)
    x, t = torch.arange(8.0).reshape(8, 1, 1, 1), torch.arange(8)
    out = columns.apply_model(x, t, {"c_crossattn": [t], "c_adm": None})
    assert torch.equal(out, x + 1)
    assert [call[1].tolist() for call in recorded.calls] == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert [call[2]["c_crossattn"][0].tolist() for call in recorded.calls] == [
        [0, 1, 4, 5],
        [2, 3, 6, 7],
    ]
    assert recorded.calls[1][3] == [Row(p, n) for p in ("uncond", "cond") for n in (2, 3)]
    assert columns.num_timesteps == 7


@pytest.mark.parametrize("noise", [GlobalNoise(), PerImageNoise([1, 2])], ids=["global", "own"])
def test_all_columns_see_the_same_random_numbers(noise):
    torch.manual_seed(0)
    drawn = ColumnNoise(noise, 3).randn((6, 4, 2, 2))
    assert drawn.shape == (6, 4, 2, 2)
    assert torch.equal(drawn[:2], drawn[2:4]) and torch.equal(drawn[:2], drawn[4:])
    assert not torch.equal(drawn[0], drawn[1])


def test_a_draw_for_all_rows_is_made_once():
    torch.manual_seed(0)
    assert ColumnNoise(GlobalNoise(), 3).randn((1, 4, 2, 2)).shape == (1, 4, 2, 2)


def test_rows_are_taken_of_what_has_them_alone():
    index, other = torch.tensor([1]), torch.zeros(3)
    assert taken([torch.arange(2), other, None], index, 2)[0].tolist() == [1]
    assert taken([torch.arange(2), other, None], index, 2)[1] is other


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("seeds", [None, [5, 6]])
def test_the_first_column_equals_a_walk_of_its_own_to_the_bit(model, sampler, scale, seeds):
    made = make_sampler(sampler, model, spacing="linspace")
    made.make_schedule(4, verbose=False)
    x, c, u = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 32), torch.randn(2, 77, 32)
    guidance = {"unconditional_guidance_scale": scale}

    def walked(walker, repeats):
        torch.manual_seed(3)
        noise = GlobalNoise() if seeds is None else PerImageNoise(seeds)
        given = {"cond": torch.cat([c, *[-c] * (repeats - 1)])}
        if scale != 1.0:
            given["unconditional_conditioning"] = u.repeat(repeats, 1, 1)
        *_, last = walker.walk(x, noise=noise, **given, **guidance)
        return last.x

    alone = walked(made, 1)
    together = walked(ColumnSampler(made, 3, 2), 3)
    assert torch.equal(together[:2], alone)
    assert not torch.equal(together[2:4], alone) and torch.equal(together[2:4], together[4:])


def test_a_mask_and_what_is_behind_it_hold_in_every_column(model):
    made = make_sampler("ddim", model, spacing="linspace")
    made.make_schedule(3, verbose=False)
    x, c = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 32)
    mask, x0 = torch.zeros(1, 1, 8, 8), torch.randn(1, 4, 8, 8)
    mask[..., :4] = 1.0
    common = {"mask": mask, "x0": x0}
    torch.manual_seed(0)
    *_, alone = made.walk(x, c, noise=GlobalNoise(), **common)
    torch.manual_seed(0)
    both = torch.cat([c, c])
    *_, last = ColumnSampler(made, 2, 1).walk(x, cond=both, noise=GlobalNoise(), **common)
    assert torch.equal(last.x[:1], alone.x) and torch.equal(last.x[1:], alone.x)
