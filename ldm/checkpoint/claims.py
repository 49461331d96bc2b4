"""Stop building a model that a configuration makes larger than any is, before it takes memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ldm.budgets import MODEL_BYTES, MODEL_TENSORS
from ldm.errors import UserError


@contextmanager
def within_budget() -> Iterator[None]:
    """Count the parameters of modules that are built inside.

    torch tells of a parameter before its layer fills it with numbers, so that one beyond the
    budget never takes the memory that it claims.

    Raises:
        UserError: More than ``MODEL_TENSORS``, or than ``MODEL_BYTES`` outside the meta device.
    """
    count = size = 0

    def note(_module: nn.Module, _name: str, weight: nn.Parameter | None) -> None:
        nonlocal count, size
        if weight is None:
            return
        count += 1
        size += 0 if weight.is_meta else weight.numel() * weight.element_size()
        if count > MODEL_TENSORS or size > MODEL_BYTES:
            raise UserError(
                f"the configuration describes a model of more than {MODEL_TENSORS} tensors or "
                f"{MODEL_BYTES >> 30} GiB; expected one that this machine can hold; correct its "
                "numbers of layers and their widths"
            )

    handle = register_module_parameter_registration_hook(note)
    try:
        yield
    finally:
        handle.remove()
