"""Where random numbers come from."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from ldm.rng import GlobalNoise, PerImageNoise, keep_random_state, seed_everything


def test_seeding_repeats_python_numpy_and_torch():
    draws = []
    for _ in range(2):
        seed_everything(5)
        draws.append((random.random(), np.random.rand(), torch.rand(()).item()))
    assert draws[0] == draws[1]


def test_the_global_source_is_torch_s_stream():
    torch.manual_seed(3)
    expected = torch.randn(2, 4)
    torch.manual_seed(3)
    assert torch.equal(GlobalNoise().randn((2, 4)), expected)


def test_an_image_s_numbers_do_not_depend_on_its_batch():
    batch, single = PerImageNoise([7, 8, 9]), PerImageNoise([8])
    for shape in ((4, 2, 2), (4, 2, 2), (3,)):
        assert torch.equal(batch.randn((3, *shape))[1], single.randn((1, *shape))[0])


def test_per_image_draws_leave_the_global_stream_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    PerImageNoise([1]).randn((1, 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_asking_for_another_number_of_images_is_refused():
    with pytest.raises(ValueError, match="3 rows asked of 2"):
        PerImageNoise([1, 2]).randn((3, 4))


def test_the_random_state_that_is_kept_is_restored_as_often_as_asked():
    torch.manual_seed(3)
    restore = keep_random_state("cpu")
    wanted = GlobalNoise().randn((2, 3))
    for _ in range(2):
        GlobalNoise().randn((5,))
        restore()
        assert torch.equal(GlobalNoise().randn((2, 3)), wanted)


def test_joined_sources_go_on_where_each_of_them_was():
    one, two = PerImageNoise([7]), PerImageNoise([8, 9])
    one.randn((1, 4))
    joined, alone = PerImageNoise.joined([one, two]), PerImageNoise([7])
    alone.randn((1, 4))
    drawn = joined.randn((3, 5))
    assert joined.seeds == [7, 8, 9] and torch.equal(drawn[0], alone.randn((1, 5))[0])
    assert torch.equal(drawn[1:], PerImageNoise([8, 9]).randn((2, 5)))
