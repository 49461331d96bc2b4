"""The sampling benchmark's side in stable-diffusion.cpp, which draws whole pictures from a file.

Its Python package is stable-diffusion-cpp-python. It cannot be asked for one step, so what a step
takes is the time between two calls of its progress callback.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.sampling_sides import SCALE, random_weights

if TYPE_CHECKING:
    import torch

TYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
"""The types that it keeps the weights of linear layers in."""
MODEL, DECODER = "v1.safetensors", "decoder.safetensors"
NARROW_NOTE = "- stable-diffusion.cpp is left out: it knows v1's widths and no others"


def has_cpp() -> bool:
    """Return whether the Python package of stable-diffusion.cpp is installed."""
    return importlib.util.find_spec("stable_diffusion_cpp") is not None


def cpp_note(*, narrow: bool) -> str:
    """Say what is different with it, or why it is left out."""
    if narrow:
        return NARROW_NOTE
    import stable_diffusion_cpp as cpp

    found = cpp.sd_get_system_info().decode().split("\n", 1)[-1].split("|")
    pairs = [each.split("=") for each in found if "=" in each]
    has = ", ".join(name.strip() for name, value in pairs if value.strip() == "1")
    return (
        f"- stable-diffusion.cpp: Python package {cpp.__version__}, built with {has}; it takes the "
        "two halves of guidance one after the other (UNet batch 1), keeps convolutions in f16 "
        "whatever the dtype, and starts from its own texts and noise: no last x to compare"
    )


@contextmanager
def files_for_cpp(unet: torch.nn.Module) -> Iterator[Path]:
    """Lend a folder with what stable-diffusion.cpp loads: v1 with our UNet's weights.

    The text encoder's are random, and so are those of a tiny decoder, which keeps short what is
    not measured. The folder has 3.7 GB.
    """
    import torch
    from diffusers import AutoencoderTiny
    from safetensors.torch import save_file

    from ldm.modules.encoders.modules import FrozenCLIPEmbedder

    with torch.device("meta"):
        words, decoder = FrozenCLIPEmbedder(), AutoencoderTiny()
    state = {f"model.diffusion_model.{name}": value for name, value in unet.state_dict().items()}
    state |= {f"cond_stage_model.{name}": w.half() for name, w in random_weights(words).items()}
    with tempfile.TemporaryDirectory(prefix="sampling-") as folder:
        save_file(state, Path(folder) / MODEL)
        save_file(random_weights(decoder), Path(folder) / DECODER)
        del state
        yield Path(folder)


class InStableDiffusionCpp:
    """stable-diffusion.cpp with the files of ``files_for_cpp``, on the processor.

    Args:
        folder: Where the files are.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        size: Pixels a side.

    Attributes:
        name: With the type of its weights.
        seconds: What loading took.
    """

    def __init__(self, folder: Path, precision: str, size: int) -> None:
        import stable_diffusion_cpp as cpp
        import torch

        self.name, self._size = f"stable-diffusion.cpp {TYPES[precision]}", size
        begin = time.perf_counter()
        self._model = cpp.StableDiffusion(
            model_path=str(folder / MODEL),
            taesd_path=str(folder / DECODER),
            vae_decode_only=True,
            n_threads=torch.get_num_threads(),
            wtype=TYPES[precision],
            verbose=False,
        )
        self.seconds = time.perf_counter() - begin

    def draw(self, steps: int) -> tuple[list[float], None]:
        """Draw a picture with guidance by DDIM; return the seconds of each step, and no x."""
        import stable_diffusion_cpp as cpp

        ticks: list[float] = []  # the first comes before the first step
        self._model.generate_image(
            "a picture",
            "a word",
            width=self._size,
            height=self._size,
            cfg_scale=SCALE,
            sample_method="ddim_trailing",
            sample_steps=steps,
            seed=1,
            progress_callback=lambda *_: ticks.append(time.perf_counter()),
        )
        # The package lets go of the callback, and C would still call it when a file is loaded.
        cpp.sd_set_progress_callback(None, None)
        if len(ticks) != steps + 1:
            raise RuntimeError(f"stable-diffusion.cpp told of {len(ticks)} times for {steps} steps")
        return [end - begin for begin, end in pairwise(ticks)], None

    def close(self) -> None:
        """Give its memory back."""
        self._model.close()
