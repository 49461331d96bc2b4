"""The rule by which the reference was filled before it computed ``narrow-v1.npz``.

Every weight follows from its checkpoint name alone, so any model that carries the official names
can be given the same numbers without a file: a normal draw seeded by the name's CRC-32, scaled by
what the tensor is for.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor, nn

# Schedules and counters are computed, not learned; the reference kept its own.
COMPUTED_PREFIXES = (
    "betas",
    "alphas_cumprod",
    "sqrt_",
    "log_one_minus",
    "posterior_",
    "lvlb_weights",
    "logvar",
    "position_ids",
    "model_ema.decay",
    "model_ema.num_updates",
    "scale_factor",
)


def official_array(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the float32 array that belongs to a checkpoint key.

    Embedding tables have standard deviation 0.02, other matrices and kernels one over the root of
    their fan-in, norm weights 1 +- 0.1, and every other vector (biases) 0.05.
    """
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    noise = generator.standard_normal(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    if len(shape) < 2:
        values = 1 + 0.1 * noise if key.endswith("weight") else 0.05 * noise
    elif key.endswith("embedding.weight"):
        values = noise * 0.02
    else:
        values = noise / np.sqrt(int(np.prod(shape[1:])))
    return np.asarray(values, dtype=np.float32)  # of a scalar too


def official_state(model: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """Return the model's state dict with every learned tensor replaced by the rule's.

    Args:
        model: any module; its tensors are not touched.
        prefix: what the full checkpoint puts before this module's own names.
    """
    state = {}
    for name, tensor in model.state_dict().items():
        key = prefix + name
        computed = key.startswith(COMPUTED_PREFIXES) or key.endswith("position_ids")
        if computed or not tensor.is_floating_point():
            state[name] = tensor
        else:
            state[name] = torch.from_numpy(official_array(key, tuple(tensor.shape)))
    return state


def rel(a, b) -> float:
    """Return the relative error ||a - b|| / ||b||, infinite where the shapes differ."""
    a, b = (np.asarray(x, dtype=np.float64) for x in (a, b))
    if a.shape != b.shape:
        return float("inf")
    return float(np.linalg.norm(a - b) / (np.linalg.norm(b) + 1e-12))
