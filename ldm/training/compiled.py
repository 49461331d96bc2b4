"""Train with a compiled network: named as a callback in a YAML, undone when the training ends."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from ldm.building import place
from ldm.errors import UserError
from ldm.kernels.compiled import check_compiler


class CompiledNetwork(Callback):
    """Compiles a diffusion model's UNet, forward and backward, at the first step of ``fit``.

    Checkpoints are the same, and so is what they hold: keys do not change. Numbers change in their
    last digits, so a run that was begun without it does not continue to the bit with it.

    Args:
        backend: As ``torch.compile`` has it.
    """

    def __init__(self, backend: str = "inductor") -> None:
        self.backend = backend
        self._network: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Have the network compiled.

        Raises:
            UserError: The model has no UNet, or this machine no compiler.
        """
        network = getattr(getattr(pl_module, "model", None), "diffusion_model", None)
        if network is None:
            raise UserError(
                f"CompiledNetwork was given {type(pl_module).__name__}, which has no UNet; expected"
                " a diffusion model; leave the callback out"
            )
        if self.backend == "inductor":
            with place("lightning.callbacks"):
                check_compiler(pl_module.device)
        network.compile(backend=self.backend)
        self._network = network

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Let the network compute by itself again."""
        self._network._compiled_call_impl = None

    def on_exception(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        exception: BaseException,  # noqa: ARG002
    ) -> None:
        """The same, when a training breaks off."""
        if self._network is not None:
            self._network._compiled_call_impl = None
