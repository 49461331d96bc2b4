"""What an adapter's file says of the run that made it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ldm.adapters.report import base_of_model
from ldm.checkpoint.download.transfer import sha256_of
from ldm.training.callbacks import SetupCallback
from ldm.training.exactness import ExactBatches

ARCHITECTURES = {"v1": "stable-diffusion-v1", "v2": "stable-diffusion-v2"}
VERSIONS = {"v1": "sd_v1", "v2": "sd_v2"}
_STARTED = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d_")


@dataclass(frozen=True)
class Base:
    """The file of the model that an adapter is trained on.

    Attributes:
        name: Of the file.
        sha256: Of its content.
    """

    name: str
    sha256: str

    @classmethod
    def of(cls, path: str | Path) -> Base:
        """Read a file through: seconds for a whole model's."""
        return cls(Path(path).name, sha256_of(Path(path)))


@dataclass(frozen=True)
class TrainingRecord:
    """A run's facts.

    Attributes:
        name: Of the adapter.
        kind: See ``Trainable``.
        steps: Optimizer steps done.
        seed: Of the run.
        rate: The learning rate.
        base: The model's file.
        family: Of models, see ``base_of_model``.
        config: The run's ``model`` section as YAML.
    """

    name: str
    kind: str
    steps: int
    seed: int
    rate: float
    base: Base
    family: str
    config: str

    def header(self) -> dict[str, str]:
        """Return the entries of a safetensors header.

        The names are those of Stability's ModelSpec (``modelspec.*``) and of kohya's files
        (``ss_*``), by which other programs show them; the YAML is under a name of our own.
        """
        family = self.family
        architecture = ARCHITECTURES.get(family, "latent-diffusion")
        entries = {
            "modelspec.sai_model_spec": "1.0.1",
            "modelspec.architecture": f"{architecture}/{self.kind}",
            "modelspec.implementation": "ldm",
            "modelspec.title": self.name,
            "ss_output_name": self.name,
            "ss_steps": str(self.steps),
            "ss_seed": str(self.seed),
            "ss_learning_rate": f"{self.rate:g}",
            "ss_sd_model_name": self.base.name,
            "ss_new_sd_model_hash": self.base.sha256,
            "ldm.model": self.config,
        }
        if family in VERSIONS:
            entries |= {"ss_base_model_version": VERSIONS[family], "ss_v2": str(family == "v2")}
        return entries


def record_of(trainer: Any, hub: Any) -> TrainingRecord:
    """Return the record of a run as it is now."""
    setup = next((c for c in trainer.callbacks if isinstance(c, SetupCallback)), None)
    config = "" if setup is None else OmegaConf.to_yaml(setup.config.get("model", {}))
    return TrainingRecord(
        name=hub.file_name or hub.adapter.file_name or _name_of(trainer),
        kind=hub.adapter.kind,
        steps=trainer.global_step,
        seed=ExactBatches.of(trainer).seed,
        rate=hub.learning_rate,
        base=hub.base,
        family=base_of_model(hub),
        config=config,
    )


def _name_of(trainer: Any) -> str:
    """Return a run's name: its folder's, without the time."""
    return _STARTED.sub("", Path(trainer.default_root_dir).name) or "adapter"
