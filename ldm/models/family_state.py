"""Strict loading that knows what the family's files hold in vain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ldm.checkpoint.names import family_state


class FamilyState(nn.Module):
    """A hub or first stage whose ``load_state_dict(strict=True)`` takes the family's files."""

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Fill the model; strictly, except for what the family is known to store in vain.

        That is ``logvar``, position ids and averages of a model that keeps none, see
        ``ldm.checkpoint.names.family_state``.

        Raises:
            RuntimeError: ``strict``, and other keys are missing or unknown, or shapes differ.
        """
        if strict:
            state_dict = family_state(self.state_dict(), state_dict)
        return super().load_state_dict(state_dict, strict=strict, assign=assign)
