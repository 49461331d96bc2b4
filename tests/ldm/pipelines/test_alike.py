"""A model is called for several pictures at once only where that changes no bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ldm.models.diffusion.ddim import DDIMSampler
from ldm.pipelines.alike import LayersByPicture, alike
from ldm.rng import PerImageNoise


class Counting(nn.Module):
    """A model that may depend on how many rows it is given, and counts them."""

    parameterization, num_timesteps, device = "eps", 1000, torch.device("cpu")

    def __init__(self, coupling, from_rows=0):
        super().__init__()
        self.coupling, self.from_rows, self.calls = coupling, from_rows, []
        self.alphas_cumprod = torch.linspace(0.999, 0.01, 1000)
        self.input_blocks = nn.ModuleList()  # what listeners take for a UNet

    def apply_model(self, x, t, cond):
        self.calls.append(len(x))
        more = self.coupling * len(x) if len(x) >= self.from_rows else 0.0
        return x.sin() * cond["c"][:, :, None, None] + more


def walk(model, numbers, scale=3.0):
    noise = PerImageNoise(numbers)
    sampler = DDIMSampler(model)
    sampler.make_schedule(4, ddim_eta=1.0, verbose=False)
    x = noise.randn((len(numbers), 4, 2, 2))
    cond, uncond = ({"c": torch.tensor(numbers)[:, None] / k} for k in (5.0, 7.0))
    given = {"unconditional_guidance_scale": scale, "unconditional_conditioning": uncond}
    return [state.x for state in sampler.walk(x, cond, noise=noise, **given)][-1]


@pytest.mark.parametrize("scale", [3.0, 1.0])
def test_pictures_have_the_bits_that_they_have_alone_whatever_the_model_does(scale):
    model = Counting(coupling=1e-3)
    alone = torch.cat([walk(model, [number], scale) for number in (3, 4, 9)])
    assert not torch.equal(walk(model, [3, 4, 9], scale), alone)
    with alike(model, {}):
        assert torch.equal(walk(model, [3, 4, 9], scale), alone)


def test_rows_that_do_not_matter_to_each_other_are_computed_at_once_after_the_first_call():
    model, known = Counting(coupling=0.0), {}
    with alike(model, known):
        walk(model, [3, 4, 9])
    assert model.calls == [6, 2, 2, 2, 6, 6, 6] and [*known.values()] == ["at once"]
    model.calls.clear()
    with alike(model, known):
        walk(model, [5, 6, 7])
    assert model.calls == [6, 6, 6, 6]


def test_rows_that_matter_to_each_other_are_never_computed_at_once_again():
    model, known = Counting(coupling=1e-3), {}
    with alike(model, known):
        walk(model, [3, 4])
        walk(model, [3, 4])
    assert model.calls == [4, *[2, 2] * 8] and [*known.values()] == ["halves"]


def test_each_walk_has_its_own_conditioning():
    model = Counting(coupling=1e-3)
    alone = torch.cat([walk(model, [number]) for number in (5, 6)])
    with alike(model, {}):
        walk(model, [3, 4])
        assert torch.equal(walk(model, [5, 6]), alone)


def test_batches_are_halved_down_to_what_changes_no_bit():
    model, known = Counting(coupling=1e-3, from_rows=6), {}
    alone = torch.cat([walk(model, [number]) for number in (3, 4, 5, 9)])
    model.calls.clear()
    with alike(model, known):
        assert torch.equal(walk(model, [3, 4, 5, 9]), alone)
    assert model.calls == [8, *[2] * 4, *[4, 2, 2, 4], *[4, 4] * 2]
    assert [*known.values()] == ["halves", "at once"]


class Multiplying(Counting):
    """A model with a layer of each kind; its products depend on the number of rows."""

    def __init__(self):
        super().__init__(coupling=0.0)
        self.linear, self.point = nn.Linear(4, 4), nn.Conv2d(4, 4, 1)

    def apply_model(self, x, t, cond):
        tokens = self.linear(x.flatten(2).transpose(1, 2)).transpose(1, 2)
        return super().apply_model(self.point(tokens.reshape(x.shape)), t, cond)


@pytest.mark.parametrize("name", ["linear", "conv2d"])
@torch.no_grad()
def test_products_are_computed_picture_by_picture_where_that_is_all_it_takes(monkeypatch, name):
    own = getattr(nn.functional, name)
    coupled = lambda x, *rest: own(x, *rest) + 1e-3 * len(x)  # noqa: E731
    monkeypatch.setattr(nn.functional, name, coupled)
    if name == "conv2d":
        monkeypatch.setattr(nn.Conv2d, "forward", lambda s, x: coupled(x, s.weight, s.bias))
    model, known = Multiplying(), {}
    alone = torch.cat([walk(model, [number]) for number in (3, 4, 9)])
    model.calls.clear()
    with alike(model, known):
        assert torch.equal(walk(model, [3, 4, 9]), alone)
    assert model.calls == [6, 6, 2, 2, 2, 6, 6, 6] and [*known.values()] == ["by layer"]
    assert "forward" not in vars(model.linear) and "forward" not in vars(model.point)


def test_layers_that_somebody_else_computes_are_left_to_him():
    model = Multiplying()
    assert len(LayersByPicture(model)) == 2
    model.linear.forward = model.linear.forward
    assert len(LayersByPicture(model)) == 1


def test_another_number_of_pictures_or_threads_is_measured_anew(monkeypatch):
    model, known = Counting(coupling=0.0), {}
    with alike(model, known):
        walk(model, [3, 4])
        walk(model, [3, 4, 5])
        monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
        walk(model, [3, 4])
    assert len(known) == 3


def test_one_picture_is_computed_as_ever_and_the_model_given_back():
    model, known = Counting(coupling=0.0), {}
    with alike(model, known):
        walk(model, [3])
    assert model.calls == [2] * 4 and not known
    assert "apply_model" not in vars(model)
