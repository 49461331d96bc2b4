"""Variations of a picture: noise that is turned part of the way towards other noise. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from ldm.errors import UserError
from ldm.settings.conventions import Conventions
from ldm.settings.option import MAX_SEED, option


@dataclass(frozen=True, kw_only=True)
class VariationSettings(Conventions):
    """How far and where to the noise that a picture starts from is turned."""

    subseed: int | None = option(
        None,
        "turn the noise of --seed towards that of this seed, by --subseed_strength; picture i goes "
        "towards this seed + i, and with --seed_mode per-image all start from --seed itself",
        int,
        minimum=0,
        maximum=MAX_SEED,
        shown="none",
        infotext="Variation seed",
    )
    subseed_strength: float = option(
        0.0,
        "how far to turn the noise: 0 is the picture itself, 1 that of --subseed, 0.1 much like it",
        minimum=0.0,
        maximum=1.0,
        infotext="Variation seed strength",
    )

    @property
    def is_varied(self) -> bool:
        """Whether pictures start from noise between two seeds'."""
        return self.subseed is not None and self.subseed_strength > 0.0

    def seeds(self, index: int) -> dict[str, int]:
        """Return the seeds of picture ``index`` of a run, by the settings' names."""
        if self.is_varied:
            return {"seed": self.seed, "subseed": self.subseed + index}
        return {"seed": self.seed + (index if self.seed_mode == "per-image" else 0)}

    def notices_on_variation(self) -> list[str]:
        """List what has no effect, one sentence each."""
        if self.subseed is None or self.subseed_strength > 0.0:
            return []
        return [f"--subseed {self.subseed} has no effect at --subseed_strength 0; try 0.1"]

    def validate(self) -> None:
        """Check each value, and that there is a seed to turn to.

        Raises:
            UserError: A strength without a seed.
        """
        super().validate()
        if self.subseed_strength > 0.0 and self.subseed is None:
            raise UserError(
                f"--subseed_strength {self.subseed_strength} was given without --subseed; expected "
                "the seed to turn the noise towards; add --subseed N"
            )
