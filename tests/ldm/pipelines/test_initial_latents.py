"""What a walk starts from: how much of an init image, and whose random numbers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from oracle import GaussianModel
from PIL import Image

from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.pipelines.batches import Batch, Place
from ldm.pipelines.init_image import InitImage
from ldm.pipelines.initial_latents import EncodedPicture, StartNoise, turned
from ldm.pipelines.walks import ImageWalk
from ldm.rng import PerImageNoise
from ldm.settings.generation import Img2ImgSettings, Txt2ImgSettings

CPU = torch.device("cpu")


def image_walk(**changes) -> ImageWalk:
    """Return a walk from a black picture of 16x16 pixels; its model is never asked."""
    settings = Img2ImgSettings(C=4, f=2, **changes)
    picture = InitImage(Image.new("RGB", (16, 16)))
    request = SimpleNamespace(settings=settings, size=(16, 16), image=picture)
    return ImageWalk(request, None, CPU)


def ddim(steps: int, spacing: str = "uniform"):
    sampler = make_sampler("ddim", GaussianModel(), spacing=spacing)
    sampler.make_schedule(steps)
    return sampler


NOBODY = Batch((), (), ())


def start_noise(**changes) -> StartNoise:
    return StartNoise(Txt2ImgSettings(C=4, f=2, **changes), (6, 4), CPU)


@pytest.mark.parametrize(
    ("strength", "asked", "taken"),
    # 0.29 * 100 is 28.999999999999996, which the reference cuts to 28; 0.55 * 50 is 27.5.
    [(0.29, 100, 28), (0.55, 50, 27), (0.75, 50, 37), (1.0, 50, 50), (0.0, 50, 0), (0.01, 50, 0)],
)
def test_strength_leaves_the_references_number_of_steps(strength, asked, taken):
    walk = image_walk(strength=strength, ddim_steps=asked)
    assert walk.steps(ddim(asked)) == taken


def test_no_more_steps_are_taken_than_the_sampler_has():
    sampler = ddim(800, "quad_unique")
    assert sampler.steps < 800
    assert image_walk(strength=1.0, ddim_steps=800).steps(sampler) == sampler.steps


def test_an_init_image_without_steps_stays_without_noise():
    latents = torch.ones(1, 4, 8, 8)
    walk = image_walk(strength=0.0, ddim_steps=50)
    assert torch.equal(walk.noised(ddim(50), latents, torch.randn_like(latents)), latents)


def test_each_picture_of_a_run_has_the_next_seed():
    places = [Place(iteration, position, 2, 2) for iteration in (0, 1) for position in (0, 1)]
    batch = Batch(tuple(places), ("",) * 4, ())
    assert start_noise(seed_mode="per-image", seed=7).source(batch).seeds == [7, 8, 9, 10]


def test_noise_that_is_shared_is_the_first_pictures_and_no_step_draws_it_again():
    start = start_noise(seed_mode="per-image", seed=7, fixed_code=True)
    start.fix()
    first, source = PerImageNoise([7]), PerImageNoise([7, 8])
    drawn = start.draw(source, 2)
    own = first.randn((1, 4, 3, 2))
    assert torch.equal(drawn, own.expand(2, -1, -1, -1))
    step = source.randn((2, 4, 3, 2))
    assert torch.equal(step[:1], first.randn((1, 4, 3, 2)))
    assert not torch.equal(step[0], drawn[0])


def test_shared_rows_of_a_shorter_batch_are_the_first_ones():
    start = start_noise(fixed_code=True, n_samples=3)
    torch.manual_seed(0)
    start.fix()
    rows = start.draw(start.source(NOBODY), 3)
    assert torch.equal(start.draw(start.source(NOBODY), 2), rows[:2])
    assert not torch.equal(rows[0], rows[1])


class WidePosterior:
    """A first stage whose latents of any picture are N(0, 1), told apart by their draws alone."""

    device = CPU

    def encode_first_stage(self, image):
        return DiagonalGaussianDistribution(torch.zeros(1, 8, 3, 2))

    def get_first_stage_encoding(self, posterior, noise=None):
        return posterior.sample(noise)


def test_every_row_of_a_batch_has_its_own_draw_from_the_posterior():
    picture = EncodedPicture(WidePosterior(), torch.zeros(1, 3, 6, 4))
    picture.encode()
    drawn = picture.latents(PerImageNoise([1, 2]), 2)
    assert torch.equal(drawn, PerImageNoise([1, 2]).randn((2, 4, 3, 2)))
    picture.share(PerImageNoise([3, 4]), 2)
    shared = PerImageNoise([3, 4]).randn((2, 4, 3, 2))
    assert torch.equal(picture.latents(PerImageNoise([1]), 1), shared[:1])


def rows(*numbers):
    return Batch(tuple(Place(0, k, 9, 3) for k in numbers), ("",) * len(numbers), ())


def drawn(batch, **changes):
    made = start_noise(**changes)
    return made.draw(made.source(batch), len(batch.places))


VARIED = {"seed_mode": "per-image", "seed": 7, "subseed": 100}


@pytest.mark.parametrize("seed_mode", ["compvis", "per-image"])
def test_noise_is_turned_from_the_seeds_to_the_other_seeds(seed_mode):
    given = VARIED | {"seed_mode": seed_mode}
    torch.manual_seed(7)
    own = drawn(rows(0), seed_mode="per-image", seed=7)
    torch.manual_seed(7)
    assert torch.equal(drawn(rows(0), **given, subseed_strength=0.0), own)
    torch.manual_seed(7)
    end = drawn(rows(0), **given, subseed_strength=1.0)
    assert torch.allclose(end, drawn(rows(0), seed_mode="per-image", seed=100), atol=1e-4)


def test_turned_noise_is_noise_and_the_further_the_less_like_the_first():
    torch.manual_seed(0)
    one, other = torch.randn(2, 4, 64, 64), torch.randn(2, 4, 64, 64)
    likeness = []
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        found = turned(one, other, share)
        assert float(found.std()) == pytest.approx(1.0, abs=0.02)
        likeness.append(float((found * one).mean()))
    assert likeness == sorted(likeness, reverse=True)
    assert likeness[1] > 0.9


def test_noise_is_turned_along_columns_as_automatic1111_does():
    torch.manual_seed(0)
    one, other = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    a, b = one[0, 2, :, 5].double(), other[0, 2, :, 5].double()
    angle = torch.arccos(a @ b / (a.norm() * b.norm()))
    wanted = (torch.sin(0.7 * angle) * a + torch.sin(0.3 * angle) * b) / torch.sin(angle)
    assert torch.allclose(turned(one, other, 0.3)[0, 2, :, 5].double(), wanted, atol=1e-5)


def test_equal_noise_stays_equal():
    noise = torch.randn(1, 4, 8, 8)
    assert torch.allclose(turned(noise, noise.clone(), 0.3), noise)


def test_variations_all_start_from_one_seed_and_each_goes_its_own_way():
    given = VARIED | {"subseed_strength": 0.2}
    both = drawn(rows(0, 1), **given)
    assert torch.equal(both[1:], drawn(rows(0), **given | {"subseed": 101}))
    assert float((both[0] * both[1]).mean()) > 0.8
