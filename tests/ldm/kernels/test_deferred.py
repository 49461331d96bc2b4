"""Arithmetic that is put off: the same numbers, whatever is done with them."""

from __future__ import annotations

import operator

import numpy as np
import pytest
import torch

from ldm.kernels.deferred import Later, Tape, do, real

SHAPE = (2, 3, 4, 4)


@pytest.fixture
def done():
    """Return the operations that were carried out."""
    return []


@pytest.fixture
def tape(done):
    def listed(does, *operands):
        done.append(does)
        return do(does, *operands)

    return Tape(listed)


def samples(seed: int = 0) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def arithmetic(x):
    """Return what samples become by all that is put off, numbers on either side of them."""
    half = torch.tensor(0.5)
    y = 2 * x + half * x * half - x / 3 + (1 - x) / half
    return (y + samples(1) - 1 + 1 / x).to(torch.float64), samples(2) * y - y


def test_nothing_is_computed_until_it_is_wanted(tape, done):
    with tape.step(samples()) as x:
        a, b = arithmetic(x)
        assert not done and (a.shape, a.dtype, len(a)) == (SHAPE, torch.float64, 2)
        values = real(a), real(b)
    assert all(map(torch.equal, values, arithmetic(samples())))


def test_steps_that_differ_in_numbers_are_the_same_work(tape):
    works = []
    for number in (0.3, torch.tensor(7.0)):
        with tape.step(samples()) as x:
            y = x / number + number * x  # noqa: F841 - somebody holds the result
            works.append(tape.work())
            assert tape.numbers == [number, number]
    assert works[0] == works[1] and hash(works[0]) == hash(works[1])


def test_only_what_somebody_holds_is_kept(tape):
    with tape.step(samples()) as x:
        y = (2 * x + 1) * 3
        assert tape.work().kept == (2,)
        z = y / 2  # noqa: F841 - held
        assert tape.work().kept == (2, 3)


def test_a_look_at_values_computes_what_was_put_off_and_the_rest_is_done_at_once(tape, done):
    with tape.step(samples()) as x:
        y = 2 * x
        assert bool((y > 0).any()) and done == [operator.mul]
        assert type(y + 1) is torch.Tensor


def test_a_write_to_the_samples_comes_after_what_was_put_off_before_it(tape):
    with tape.step(samples()) as x:
        y = 2 * x
        x[0] = 0.0
        assert torch.equal(real(y), 2 * samples())


def test_a_result_of_an_earlier_step_is_put_off_with_the_next_one(tape, done):
    with tape.step(samples()) as x:
        before = 2 * x
        real(before)
    with tape.step(samples(1)) as x:
        y = x + 3 * before
        assert len(done) == 1 and type(y) is Later
        assert torch.equal(real(y), samples(1) + 3 * (2 * samples()))
    assert torch.equal(before + 1, 2 * samples() + 1)  # between steps too


@pytest.mark.parametrize("other", [torch.ones(2, 1, 1, 1), torch.ones(SHAPE, dtype=torch.long)])
def test_samples_of_another_shape_or_kind_are_not_put_off(tape, other):
    with tape.step(samples()) as x:
        assert type(x * other) is torch.Tensor


def test_a_step_that_ended_holds_nothing(tape):
    with tape.step(samples()) as x:
        assert type(2 * x) is Later
    assert tape.like is None and not tape.inputs


def test_numbers_of_numpy_are_put_off_too(tape, done):
    with tape.step(samples()) as x:
        assert type(np.float64(2) * x) is Later and not done
