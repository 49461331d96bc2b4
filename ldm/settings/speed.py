"""How a model computes: what makes it faster without changing what it draws. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ldm.settings.option import option

KERNELS = ("plain", "auto")
BACKENDS = ("torch", "auto", "cudnn", "flash", "efficient", "math")


@dataclass(frozen=True, kw_only=True)
class SpeedSettings:
    """Choices of arithmetic. The defaults are the plain modules, as the reference runs them."""

    kernels: str = option(
        "plain",
        "plain is torch's own arithmetic; auto packs the weights for a processor, a second copy of "
        "them in memory, and keeps a model channels-last on a CUDA device, with norms and gates in "
        "kernels of our own: less time, and the same numbers but for rounding",
        choices=KERNELS,
        group="model",
    )
    compile: bool = option(
        False,
        "compile the UNet and the decoder by torch.compile: minutes before the first picture of a "
        "size, less for each one after it; numbers change in their last digits",
        group="model",
    )
    graphs: str = option(
        "off",
        "auto records each step, with guidance and the sampler's update, as one CUDA graph, where "
        "the model is whole on a CUDA device and no adapter acts on it; the numbers are the same",
        choices=("auto", "off"),
        group="model",
    )
    attention_backend: str = option(
        "torch",
        "who computes attention on a CUDA device: torch leaves it to torch, auto chooses by the "
        "device and the width of a head; numbers change in their last digits",
        choices=BACKENDS,
        group="model",
    )

    decode_beside: str = option(
        "off",
        "auto decodes a batch while the next one is drawn, where the model is whole on a CUDA "
        "device and memory suffices for both; the pictures are the same, and come a batch later",
        choices=("auto", "off"),
        group="model",
    )

    @property
    def asked(self) -> tuple[str, ...]:
        """The flags whose choices are not the plain ones."""
        plain = SpeedSettings()
        names = [each.name for each in fields(SpeedSettings)]
        return tuple(f"--{name}" for name in names if getattr(self, name) != getattr(plain, name))
