"""Gradients that are sent in a smaller form are nearly those that were to be sent."""

from __future__ import annotations

import sys

import pytest
import torch
from training_parts import Denoiser

from ldm.errors import UserError
from ldm.training.compression import (
    CompressedStrategy,
    Compression,
    bucketing,
    read_compression,
)
from ldm.training.strategies import choose_strategy

FORK = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
TWO = ("--accelerator", "cpu", "--devices", "2", "--strategy", "ddp_fork", "--max_steps", "4")
LOW_RANK = "lightning.gradient_compression={kind: powersgd, rank: 2, start: 2}"


def gradients(work, name: str, *more: str) -> list[list[dict]]:
    """Train with two processes; return the gradients of each process and step."""
    folder = work.folder / f"record_{name}"
    recorder = "lightning.callbacks.recorder"
    work.start_apart(
        name,
        *("model.target=training_parts.Deep", *TWO, *more),
        f"{recorder}.target=training_parts.Recorder",
        f"{recorder}.params.folder={folder}",
    )
    paths = sorted(folder.glob("*.pt"))
    return [torch.load(path, weights_only=True)["gradients"] for path in paths]


def distance(found: dict, expected: dict) -> float:
    """Return the relative error of all gradients together."""
    error = sum((found[key] - expected[key]).square().sum() for key in expected)
    return float((error / sum(value.square().sum() for value in expected.values())).sqrt())


@FORK
def test_every_kind_changes_gradients_little_and_alike_in_all_processes(work):
    plain = gradients(work, "plain")[0]
    # Rounding to 8 or 11 bits; a matrix of rank 64 as one of rank 2, first in the third step.
    for name, more, step, bounds in (
        ("bf16", ("--gradient_compression", "bf16"), 0, (1e-4, 1e-2)),
        ("fp16", ("--gradient_compression", "fp16"), 0, (1e-5, 1e-3)),
        ("low", (LOW_RANK,), 2, (1e-3, 0.9)),
    ):
        first, second = gradients(work, name, *more)
        assert all(torch.equal(a[k], b[k]) for a, b in zip(first, second, strict=True) for k in a)
        assert bounds[0] < distance(first[step], plain[step]) < bounds[1], name
    assert distance(first[0], plain[0]) == distance(first[1], plain[1]) == 0


def test_it_is_ddp_s_alone_and_one_device_is_told_that_it_sends_nothing(caplog):
    small = Compression("bf16")
    two = choose_strategy({"devices": 2}, Denoiser(), small)
    assert isinstance(two, CompressedStrategy)
    assert not isinstance(choose_strategy({"devices": 2}, Denoiser()), CompressedStrategy)
    with pytest.raises(UserError, match="gradient_compression bf16 given with strategy fsdp"):
        choose_strategy({"devices": 2, "strategy": "fsdp"}, Denoiser(), small)
    assert choose_strategy({"devices": 1}, Denoiser(), small) == "auto"
    assert "gradient_compression bf16 is not used" in caplog.text


def test_on_a_cpu_powersgd_has_all_gradients_in_one_bucket():
    """Several buckets' rounds come in any order there, and gloo ends the process."""
    low = Compression("powersgd")
    assert bucketing(low, "cpu")["bucket_cap_mb"] * 2**20 > 1e12
    assert bucketing(low, "cuda") == bucketing(Compression("fp16"), "cpu") == {}


def test_after_a_bad_step_what_was_left_out_is_forgotten():
    strategy = CompressedStrategy(Compression("powersgd"))
    strategy.forget_errors()
    strategy._memory = type("Memory", (), {})()
    held = ("error_dict", "p_memory_dict", "q_memory_dict")
    for name in held:
        setattr(strategy._memory, name, {0: torch.full((2,), float("nan"))})
    strategy.forget_errors()
    assert all(getattr(strategy._memory, name) == {} for name in held)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("int8", "is 'int8'; expected none, fp16, bf16 or powersgd"),
        ({"kind": "powersgd", "rank": 0}, "rank is 0; expected a whole number, 1 or more"),
        ({"kind": "powersgd", "start": 1}, "start is 1; expected a whole number, 2 or more"),
        ({"sort": "fp16"}, "has 'sort'; expected kind, rank or start"),
    ],
)
def test_other_kinds_and_numbers_are_refused(given, words):
    with pytest.raises(UserError, match=words):
        read_compression(given)


@pytest.mark.parametrize("given", [None, "none", {"kind": "none"}, {}])
def test_none_is_none(given):
    assert read_compression(given) is None
