"""Send smaller gradients between processes: rounded, or as matrices of low rank."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from pytorch_lightning.strategies import DDPStrategy
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from ldm.errors import UserError
from ldm.settings.option import one_of
from ldm.training.arguments import COMPRESSIONS

logger = logging.getLogger(__name__)

ROUNDED = {"fp16": default_hooks.fp16_compress_hook, "bf16": default_hooks.bf16_compress_hook}
WHERE = "lightning.gradient_compression"


@dataclass(frozen=True)
class Compression:
    """How gradients are sent.

    Attributes:
        kind: ``fp16`` or ``bf16`` for half of the bytes; ``powersgd`` for matrices of low rank
            (arXiv:1905.13727) with what that leaves out added to the next step's gradients.
        rank: PowerSGD's rank, 1 or more: bytes and precision grow with it.
        start: Steps that PowerSGD leaves as they are at first, 2 or more.
    """

    kind: str
    rank: int = 4
    start: int = 1000


def read_compression(given: Any) -> Compression | None:
    """Read a kind, or a mapping with ``kind``, ``rank`` and ``start``; None is for none.

    Raises:
        UserError: It is something else.

    Example:
        >>> read_compression("bf16").kind, read_compression("none")
        ('bf16', None)
    """
    given = {"kind": given or "none"} if not isinstance(given, Mapping) else dict(given)
    known = [field.name for field in fields(Compression)]
    if unknown := [str(name) for name in given if name not in known]:
        raise UserError(f"{WHERE} has {unknown[0]!r}; expected {one_of(known)}; correct it")
    compression = Compression(**{"kind": "none", **given})
    if compression.kind not in COMPRESSIONS:
        raise UserError(
            f"{WHERE} is {compression.kind!r}; expected {one_of(COMPRESSIONS)}; correct it there "
            "or with --gradient_compression"
        )
    for name, least in (("rank", 1), ("start", 2)):
        value = asdict(compression)[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(
                f"{WHERE}.{name} is {value!r}; expected a whole number, {least} or more; correct it"
            )
    return None if compression.kind == "none" else compression


def bucketing(compression: Compression, device_type: str) -> dict[str, Any]:
    """Return DDP's arguments that a kind needs on a type of device.

    PowerSGD sends a bucket in three rounds, each begun when the one before is there. Without NCCL's
    streams nothing keeps the rounds of several buckets in one order on all processes, and what
    arrives is another bucket's. One bucket that holds all gradients has no such trouble.
    """
    alone = compression.kind == "powersgd" and device_type == "cpu"
    return {"bucket_cap_mb": 2**20} if alone else {}


def compress(
    model: DistributedDataParallel, compression: Compression
) -> powerSGD_hook.PowerSGDState | None:
    """Have a model's gradients sent in a smaller form; return what PowerSGD remembers."""
    if compression.kind in ROUNDED:
        model.register_comm_hook(None, ROUNDED[compression.kind])
        return None
    memory = powerSGD_hook.PowerSGDState(
        process_group=None,
        matrix_approximation_rank=compression.rank,
        start_powerSGD_iter=compression.start,
    )
    model.register_comm_hook(memory, powerSGD_hook.powerSGD_hook)
    return memory


class CompressedStrategy(DDPStrategy):
    """DDP whose gradients are sent in a smaller form, on any device.

    Args:
        compression: In which.
        arguments: As of ``DDPStrategy``, which would use its own hooks on GPUs alone.
    """

    def __init__(self, compression: Compression, **arguments: Any):
        super().__init__(**arguments)
        self.compression = compression
        self._memory: powerSGD_hook.PowerSGDState | None = None

    def configure_ddp(self) -> None:
        """Wrap the model in DDP, and have its gradients sent so."""
        self._ddp_kwargs.update(bucketing(self.compression, self.root_device.type))
        super().configure_ddp()
        self._memory = compress(self.model, self.compression)
        if self._memory is not None and self.lightning_module.trainer.ckpt_path:
            logger.warning(
                "what PowerSGD has left out so far is in no checkpoint: the run goes on with %d "
                "plain steps, and not as it would have without the stop",
                self.compression.start,
            )

    def forget_errors(self) -> None:
        """Drop what was left out of gradients so far, as after a step that was a bad one."""
        if self._memory is not None:
            for held in ("error_dict", "p_memory_dict", "q_memory_dict"):
                getattr(self._memory, held).clear()
