"""The safety checker: black out flagged pictures, and report every finding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ldm.errors import UserError
from ldm.safety.weights import LOCAL_FOLDER, find_weights

if TYPE_CHECKING:  # a checker that is off or has no weights needs neither torch nor transformers
    import torch

    from ldm.safety.concepts import ConceptModel

POLICIES = ("black", "off")
HOW_TO_GET_IT = "python scripts/download_models.py safety-checker"


@dataclass(frozen=True)
class Finding:
    """What the checker found in one picture.

    Attributes:
        concepts: Number (row of ``concept_embeds``, from 0) and score of each concept matched;
            one is enough to flag the picture. The score is the cosine above the threshold.
        special_care: The same for the special-care concepts, which make the others stricter.
    """

    concepts: tuple[tuple[int, float], ...] = ()
    special_care: tuple[tuple[int, float], ...] = ()

    @property
    def flagged(self) -> bool:
        """Whether the picture is withheld."""
        return bool(self.concepts)

    def __str__(self) -> str:
        """Name the matches, such as "concept 4 (score 0.031), special care 0 (score 0.002)"."""
        matches = [("concept", *match) for match in self.concepts]
        matches += [("special care", *match) for match in self.special_care]
        return ", ".join(f"{kind} {number} (score {score:.3f})" for kind, number, score in matches)


class Checked(NamedTuple):
    """The pictures to return, uint8 (B, H, W, 3), and what was found in each."""

    pictures: np.ndarray
    flags: list[bool]
    findings: list[Finding]


class SafetyChecker:
    """Checks finished pictures with the network of CompVis/stable-diffusion-safety-checker.

    The network is loaded at the first check (or by ``load``), from local files only.

    Args:
        policy: "black" blacks flagged pictures out, "off" checks nothing.
        path: Folder of the checker's files; None looks in the usual places.
        device: Where to compute. The reference computes on the CPU.

    Raises:
        UserError: The policy is unknown, or the path does not have the files.
    """

    def __init__(
        self,
        policy: str = "black",
        path: str | Path | None = None,
        *,
        device: str | torch.device = "cpu",
    ):
        if policy not in POLICIES:
            raise UserError(f"safety checker policy {policy!r}; one of {', '.join(POLICIES)}")
        self.policy = policy
        self.device = device
        self.files = None if policy == "off" else find_weights(path)
        self._model: ConceptModel | None = None

    @property
    def active(self) -> bool:
        """Whether pictures are checked."""
        return self.files is not None

    @property
    def status(self) -> str | None:
        """Return one line on why pictures are not checked; None if they are."""
        if self.active:
            return None
        if self.policy == "off":
            return "pictures are not checked for unsafe content: --safety_checker off"
        return (
            "pictures are not checked for unsafe content: no safety checker in "
            f"{LOCAL_FOLDER} or the hub's cache; to get it: {HOW_TO_GET_IT}"
        )

    def load(self) -> None:
        """Load the network now, to detect a damaged file before any picture is made.

        Raises:
            UserError: A file is damaged or incomplete, or transformers cannot be imported.
        """
        if self.files is not None and self._model is None:
            from ldm.safety.concepts import ConceptModel

            self._model = ConceptModel(self.files, self.device)

    def check(self, pictures: np.ndarray, *, seen: np.ndarray | None = None) -> Checked:
        """Check a batch; if the checker is not active, nothing is flagged.

        Args:
            pictures: uint8 (B, H, W, 3), RGB, what would be saved; not modified.
            seen: The same pictures as the network's input. The reference rounds these, but
                truncates what it saves: ``to_uint8(x, rounded=True)``. Default: ``pictures``.

        Returns:
            The pictures with flagged ones black, the flags, and the findings.

        Raises:
            UserError: As from ``load``.
        """
        self.load()
        if self._model is None:
            return Checked(pictures, [False] * len(pictures), [Finding()] * len(pictures))
        scores = self._model.score(pictures if seen is None else seen)
        findings = [
            Finding(_matches(concepts), _matches(special_care))
            for concepts, special_care in zip(scores.concepts, scores.special_care, strict=True)
        ]
        flags = [finding.flagged for finding in findings]
        shown = np.where(np.array(flags)[:, None, None, None], np.uint8(0), pictures)
        return Checked(shown, flags, findings)


def _matches(scores: np.ndarray) -> tuple[tuple[int, float], ...]:
    return tuple((number, float(score)) for number, score in enumerate(scores) if score > 0)
