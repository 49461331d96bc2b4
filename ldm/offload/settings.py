"""Settings of a device plan: policy, rows at a time, tiling and resident blocks."""

from __future__ import annotations

from dataclasses import dataclass

from ldm.errors import UserError
from ldm.offload.stages import STAGES, UNET

POLICIES = ("resident", "turbo", "four-part", "stream")
"""The policies, from most to least memory."""


@dataclass(frozen=True)
class PlanSettings:
    """How to run a model.

    Attributes:
        policy: One of ``POLICIES``.
        unet_rows: Rows of the UNet's batch (guidance doubles them) computed at a time; None: all.
        tiled_decode: The autoencoder works in strips, in both directions; its pictures are the
            same up to rounding.
        resident_blocks: With ``stream``: layers of the UNet that stay on the device while
            sampling, such as ``input_blocks.1.0``.

    Raises:
        UserError: The policy is unknown, ``unet_rows`` is below 1, or there are resident blocks
            without ``stream``.
    """

    policy: str = "four-part"
    unet_rows: int | None = None
    tiled_decode: bool = False
    resident_blocks: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            known = ", ".join(POLICIES)
            raise UserError(f"policy {self.policy!r} given; expected one of {known}; choose one")
        if self.unet_rows is not None and self.unet_rows < 1:
            raise UserError(f"unet_rows {self.unet_rows} given; expected 1 or more; leave it out")
        if self.resident_blocks and self.policy != "stream":
            raise UserError(
                f"resident_blocks given with policy {self.policy!r}; expected 'stream'; "
                "leave them out"
            )

    @property
    def keeps(self) -> tuple[str, ...]:
        """Stages that stay on the device after they have computed."""
        return {"resident": STAGES, "turbo": UNET}.get(self.policy, ())
