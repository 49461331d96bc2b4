"""How a control's outputs are weighed: the modes that people know from AUTOMATIC1111's extension.

    mode       weights of the outputs            rows
    balanced   1                                 all
    prompt     0.825 ** 12, ..., 0.825, 1        all            "My prompt is more important"
    control    the same                          conditional    "ControlNet is more important"
    guess      the same                          conditional    the name that cldm's programs have

With guidance, a control of the conditional rows alone is multiplied by the guidance scale.
"""

from __future__ import annotations

from collections.abc import Sequence

from ldm.errors import UserError
from ldm.modules.attention_control.moments import Row

BALANCED, PROMPT, CONTROL, GUESS = MODES = ("balanced", "prompt", "control", "guess")
SOFTENING = 0.825
"""Of an output's weight to the next deeper one's; cldm's choice."""
SOFT_FEATURES = (0.25, 0.62, 0.825, 1.0)
"""Soft weights of a T2I-Adapter's features, as the extension has them."""


def check_mode(mode: str) -> None:
    """Refuse an unknown mode.

    Raises:
        UserError: It is none of ``MODES``.
    """
    if mode not in MODES:
        raise UserError(f"control mode {mode!r} given; expected one of {', '.join(MODES)}")


def soft_weights(count: int) -> tuple[float, ...]:
    """Return the soft weights of a ControlNet's outputs, shallow first."""
    return tuple(SOFTENING ** (count - 1 - i) for i in range(count))


def soft_features(count: int) -> tuple[float, ...]:
    """Return the soft weights of a T2I-Adapter's features, shallow first."""
    return (SOFT_FEATURES[0],) * max(0, count - len(SOFT_FEATURES)) + SOFT_FEATURES[-count:]


def output_weights(
    mode: str, soft: Sequence[float], given: Sequence[float] | None
) -> tuple[float, ...]:
    """Return the weight of each output.

    Args:
        mode: One of ``MODES``.
        soft: Their soft weights.
        given: The user's own, which go before the mode's; one an output.

    Raises:
        UserError: The user's are more or fewer.
    """
    check_mode(mode)
    if given is None:
        return tuple(soft) if mode != BALANCED else (1.0,) * len(soft)
    if len(given) != len(soft):
        raise UserError(
            f"{len(given)} scales given for a control with {len(soft)} outputs; expected one for "
            "each, shallow first; lengthen or shorten the list"
        )
    return tuple(float(each) for each in given)


def chosen_rows(rows: Sequence[Row], conditional: bool) -> list[int]:
    """Return the numbers of the rows that are controlled: all, or those under a prompt."""
    return [i for i, row in enumerate(rows) if not conditional or row.part != "uncond"]
