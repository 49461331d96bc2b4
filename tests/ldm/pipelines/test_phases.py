"""In which precision parts are computed, and what of it can be used."""

from __future__ import annotations

import pytest
import torch

from ldm.errors import UserError
from ldm.pipelines.phases import half_of, is_finite, is_not_black, lacked_memory, memory_for
from ldm.pipelines.run import Execution

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cpu"])
def test_a_precision_by_name_is_the_same_on_every_device_and_auto_is_none(name):
    device = torch.device(name)
    assert half_of(device, "bfloat16") == torch.bfloat16
    assert half_of(device, "float16") == torch.float16
    assert half_of(device, "full") is half_of(device, "int8") is None
    with pytest.raises(ValueError, match="settled"):
        half_of(device, "auto")


@pytest.mark.parametrize(
    ("name", "half"), [("cuda:1", torch.float16), ("cpu", None), ("mps", None)]
)
def test_half_precision_is_cudas_alone(name, half):
    assert half_of(torch.device(name)) == half


def test_a_first_picture_is_encoded_in_float32_and_the_rest_under_autocast():
    execution = Execution(CPU, torch.bfloat16)
    seen = {}
    for phase in ("encode", "walk", "decode"):
        work = lambda: torch.is_autocast_enabled("cpu")  # noqa: E731
        seen[phase] = execution.compute(phase, work, lambda _: True)
    assert seen == {"encode": False, "walk": True, "decode": True}
    assert not torch.is_autocast_enabled("cpu")
    assert not Execution(CPU, None).compute("walk", work, lambda _: True)


def test_nan_and_infinity_are_not_finite():
    x = torch.zeros(2, 3, 4, 4)
    assert is_finite(x)
    for value in (float("nan"), float("inf"), float("-inf")):
        spoilt = x.clone()
        spoilt[1, 2, 3, 3] = value
        assert not is_finite(spoilt) and not is_not_black(spoilt)


def test_a_batch_is_not_black_when_none_of_its_pictures_is_black():
    decoded = torch.full((2, 3, 4, 4), -1.5)
    decoded[0, 1, 2, 2] = -0.9
    assert not is_not_black(decoded)
    decoded[1, 0, 0, 0] = 0.5
    assert is_not_black(decoded)


def test_lack_of_memory_is_known_through_what_was_made_of_it():
    with pytest.raises(UserError) as refused, memory_for("pictures", CPU, "fewer"):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
    assert lacked_memory(refused.value) and lacked_memory(MemoryError())
    assert not lacked_memory(UserError("a prompt")) and not lacked_memory(None)
