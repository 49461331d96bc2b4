"""Classifier guidance held against data whose classifier and conditional models are known exactly.

The data are a mixture of two Gaussians. Then the classifier of noisy samples is Bayes' rule, and
what guidance by it must give is the model of the wanted component alone.
"""

from __future__ import annotations

import pytest
import torch
from oracle import GaussianModel

from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.process.classifier_guidance import (
    ClassifierGuidance,
    class_log_probability,
    gradient_of,
)
from ldm.process.guidance import ClassifierFreeGuidance
from ldm.rng import PerImageNoise
from ldm.settings.samplers import SAMPLERS

SHAPE, MEANS, STD = (2, 3, 3), (-0.4, 0.3), 0.6
LABELS = torch.tensor([0, 1, 1])


class MixtureModel(GaussianModel):
    """The optimal model of equally many N(mean, STD^2) samples for each mean."""

    def logits(self, x, t):
        """Return log p(x_t | class) up to a constant (B, 2): Bayes' classifier."""
        alpha_bar = self.alpha_bar(t)[:, None]
        variance = alpha_bar * STD**2 + 1 - alpha_bar
        squares = [
            (x.double().flatten(1) - alpha_bar.sqrt() * mean).square().sum(1, keepdim=True)
            for mean in MEANS
        ]
        return -torch.cat(squares, dim=1) / (2 * variance)

    def apply_model(self, x, t, cond):
        if cond is not None:
            return super().apply_model(x, t, cond)
        shares = self.logits(x, t).softmax(dim=1).T.reshape(2, -1, 1, 1, 1)
        means = [torch.full((len(x), 1, 1, 1), mean) for mean in MEANS]
        outs = [super(MixtureModel, self).apply_model(x, t, mean) for mean in means]
        return sum(share * out.double() for share, out in zip(shares, outs, strict=True)).to(x)


def sample(name, model, cond=None, **options):
    start = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    noise = PerImageNoise([0, 1, 2])
    sampler = make_sampler(name, model)
    return sampler.sample(30, 3, SHAPE, cond, x_T=start, noise=noise, verbose=False, **options)[0]


def guidance(model, scale=1.0, **options):
    return ClassifierGuidance(
        class_log_probability(model.logits, LABELS),
        model.alphas_cumprod,
        scale,
        model.parameterization,
        **options,
    )


def wanted_means():
    return torch.tensor(MEANS)[LABELS].reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_guidance_of_scale_1_gives_what_the_classes_own_model_gives(name, kind):
    model = MixtureModel(std=STD, parameterization=kind)
    guided = sample(name, model, guider=guidance(model))
    own = sample(name, MixtureModel(std=STD, parameterization=kind), wanted_means())
    # The k-samplers and the model read the noise between two training steps a little differently.
    torch.testing.assert_close(guided, own, rtol=0, atol=2e-3)
    assert (own - sample(name, MixtureModel(std=STD))).abs().max() > 0.02


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_a_bayes_classifier_guides_as_classifier_free_guidance_does(scale):
    # log p(y | x) = log p(x | y) - log p(x) + const: the gradients are the same at every scale.
    model = MixtureModel(std=STD)
    guided = sample("ddim", model, guider=guidance(model, scale))

    class Free(ClassifierFreeGuidance):
        def prepare(self, x, t, cond, uncond):
            self.outs = [model.apply_model(x, t, uncond), model.apply_model(x, t, cond)]
            return x, t, cond

        def combine(self, out, t):
            return super().combine(torch.cat(self.outs), t)

    free = sample("ddim", model, wanted_means(), guider=Free(scale))
    torch.testing.assert_close(guided, free, rtol=0, atol=1e-4)


def test_guidance_stands_on_top_of_classifier_free_guidance():
    model = GaussianModel(std=STD)
    cond, uncond = torch.full((3, 1, 1, 1), 0.4), torch.zeros(3, 1, 1, 1)
    classifier = MixtureModel(std=STD)

    def guided(inner_scale, cond):
        inner = ClassifierFreeGuidance(inner_scale)
        log_probability = class_log_probability(classifier.logits, LABELS)
        guider = ClassifierGuidance(log_probability, model.alphas_cumprod, 2.0, inner=inner)
        return sample("ddim", model, cond, guider=guider, unconditional_conditioning=uncond)

    # The oracle is linear in the mean: scale 2 towards 0.4 is scale 1 towards 0.8.
    torch.testing.assert_close(guided(2.0, cond), guided(1.0, 2 * cond), rtol=0, atol=1e-4)


def test_the_gradient_is_the_one_that_differences_show_and_leaves_its_input_alone():
    model = MixtureModel(std=STD)
    log_probability = class_log_probability(model.logits, LABELS)
    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(2))
    before, t = x.clone(), torch.full((3,), 400)
    with torch.no_grad():
        gradient = gradient_of(log_probability, x, t)
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
        ends = [log_probability(x + step * direction, t) for step in (1e-2, -1e-2)]
    along = (gradient * direction).flatten(1).sum(1)
    torch.testing.assert_close(along, (ends[0] - ends[1]) / 2e-2, rtol=2e-3, atol=1e-3)
    assert torch.equal(x, before) and not x.requires_grad


def test_one_label_serves_every_row():
    model = MixtureModel(std=STD)
    x, t = torch.randn(3, *SHAPE), torch.full((3,), 400)
    one = class_log_probability(model.logits, torch.tensor([1]))(x, t)
    assert torch.equal(one, class_log_probability(model.logits, torch.ones(3).long())(x, t))
