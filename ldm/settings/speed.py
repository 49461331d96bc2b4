"""How a model computes: what makes it faster without changing what it draws. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from ldm.settings.option import option

BACKENDS = ("torch", "auto", "cudnn", "flash", "efficient", "math")


@dataclass(frozen=True, kw_only=True)
class SpeedSettings:
    """Choices of arithmetic. The defaults are the plain modules, as the reference runs them."""

    compile: bool = option(
        False,
        "compile the UNet and the decoder by torch.compile: minutes before the first picture of a "
        "size, less for each one after it; numbers change in their last digits",
        group="model",
    )
    graphs: str = option(
        "off",
        "auto records each step of the model as one CUDA graph, where the model is whole on a CUDA "
        "device and no adapter acts on it; the numbers are the same",
        choices=("auto", "off"),
        group="model",
    )
    card_kernels: str = option(
        "off",
        "on keeps the model channels-last on a CUDA device, with norms and gates in kernels of our "
        "own; numbers change in their last digits",
        choices=("on", "off"),
        group="model",
    )
    attention_backend: str = option(
        "torch",
        "who computes attention on a CUDA device: torch leaves it to torch, auto chooses by the "
        "device and the width of a head; numbers change in their last digits",
        choices=BACKENDS,
        group="model",
    )

    @property
    def for_cards(self) -> dict[str, str]:
        """The choices that only a CUDA device has, where they differ from the plain ones."""
        given = {
            "--graphs": (self.graphs, "off"),
            "--card_kernels": (self.card_kernels, "off"),
            "--attention_backend": (self.attention_backend, "torch"),
        }
        return {flag: value for flag, (value, plain) in given.items() if value != plain}
