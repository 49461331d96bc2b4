"""Faces of a run's pictures: the network and the detector that its settings name, and records."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ldm.faces.detecting import Detector, detector_of
from ldm.faces.restorer import FaceRestorer, load_restorer
from ldm.faces.restoring import FaceObserver, restore_faces
from ldm.paths import identity
from ldm.pipelines.cancelling import Cancel, interruptible
from ldm.pipelines.networks import find_restorer
from ldm.pipelines.progress import Notice, Observer
from ldm.pipelines.source_files import detector_file, face_entries
from ldm.settings.faces import RESTORATION, FaceSettings


@dataclass(frozen=True, eq=False)
class Faces:
    """What redraws faces, as a user chose it.

    Attributes:
        restorer: The network.
        detector: Finds faces.
        by: The detector's file; None is the cascade.
        fidelity: Asked for; None is usual.
    """

    restorer: FaceRestorer
    detector: Detector
    by: Path | None
    fidelity: float | None = None

    @classmethod
    def of(
        cls, model: str, detector: str | None, fidelity: float | None, device: torch.device | str
    ) -> Faces:
        """Load what is named; what was loaded last is not loaded again.

        Args:
            model: The network's file, or its name in models/faces.
            detector: As for ``detector_file``.
            fidelity: From 0 to 1, or None.
            device: Where the network computes.

        Raises:
            UserError: A file cannot be used, or a package is not installed.
        """
        path, by = find_restorer(model), detector_file(detector)
        finder = detector_of(by)
        restorer = _loaded(path, identity(path), torch.device(device))
        return cls(restorer, finder, by, fidelity)

    @classmethod
    def asked(cls, settings: FaceSettings, device: torch.device | str, observer: Observer) -> Faces:
        """Return what the settings of a run ask for, and tell of it."""
        made = cls.of(
            settings.restore_faces, settings.face_detector, settings.face_fidelity, device
        )
        observer(Notice(f"Faces are redrawn by {made.summary()}."))
        return made

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.restorer.device

    @property
    def entries(self) -> dict[str, str]:
        """What a picture records of it, without the files."""
        used = self.restorer.fidelity(self.fidelity)
        return {RESTORATION: self.restorer.architecture, "Face fidelity": f"{used:.10g}"}

    def recorded(self) -> dict[str, str]:
        """Return all that a drawn picture records, so that it can be redrawn."""
        return {**self.entries, **face_entries(self.restorer.path, self.by)}

    def summary(self) -> str:
        """Describe it in a few words."""
        restorer, used = self.restorer, self.restorer.fidelity(self.fidelity)
        kind = "a blend with what was there" if restorer.blends else "the network's own"
        return (
            f"{restorer.name} ({restorer.architecture}), fidelity {used:g} ({kind}), faces "
            f"found by {self.by.name if self.by else 'the cascade'}"
        )

    def restored(
        self, pixels: np.ndarray, observer: FaceObserver = lambda _: None
    ) -> tuple[np.ndarray, int]:
        """Return a picture, uint8 (H, W, 3), with its faces redrawn, and how many there are."""
        return restore_faces(
            pixels, self.restorer, self.detector, fidelity=self.fidelity, observer=observer
        )

    def redrawn(
        self,
        pixels: np.ndarray,
        seen: np.ndarray,
        numbers: Sequence[int],
        observer: Observer,
        cancel: Cancel | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return drawn pictures with their faces redrawn, and what the safety checker is shown.

        Args:
            pixels: uint8 (B, H, W, 3); not modified.
            seen: The same, as the safety checker looks at them.
            numbers: Of the pictures in their run, from 1.
            observer: Told of pictures without a face.
            cancel: Ends it early where it is asked to; None never does.

        Raises:
            UserError: The network computed NaN.
            Cancelled: It was ended.
        """
        pixels, seen = pixels.copy(), seen.copy()
        for row, number in enumerate(numbers):
            with self._cancelled_by(cancel):
                restored, found = self.restored(pixels[row])
            if found:
                pixels[row] = seen[row] = restored
            else:
                observer(Notice(f"Picture {number}: no face was found, and nothing redrawn."))
        return pixels, seen

    def _cancelled_by(self, cancel: Cancel | None) -> AbstractContextManager[None]:
        """Return the context in which a token ends the work within an operation."""
        if cancel is None:
            return nullcontext()
        cancel.check()
        return interruptible(self.restorer.network.model, cancel)


@lru_cache(maxsize=1)
def _loaded(path: Path, _state: tuple | None, device: torch.device) -> FaceRestorer:
    return load_restorer(path, device)
