"""A tiny model, one use of it from prompt to picture, and movers that stand for a device."""

from __future__ import annotations

import copy

import torch
from omegaconf import OmegaConf
from tiny_model import CONFIG, FACTOR, SIZE
from torch import Tensor

from ldm.config import build
from ldm.models.diffusion.ddpm import LatentDiffusion
from ldm.offload.movers import Mover
from ldm.offload.stages import Ledger

CPU = torch.device("cpu")


def make_tiny(**changes) -> LatentDiffusion:
    """Build the tiny model with changed parameters (``None`` removes one), all of it random."""
    config = copy.deepcopy(CONFIG)
    params = config["model"]["params"]
    params["unet_config"]["params"].update(changes.pop("unet", {}))
    params.update(changes)
    unet = params["unet_config"]["params"]
    params["unet_config"]["params"] = {k: v for k, v in unet.items() if v is not None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(OmegaConf.create(config)).eval()
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
    return model


@torch.no_grad()
def use(model: LatentDiffusion, rows: int = 2) -> dict[str, Tensor]:
    """Use every part of a model in the order of a run of two steps."""
    generator, side = torch.Generator().manual_seed(1), SIZE // FACTOR
    x = torch.randn(rows, 4, side, side, generator=generator).to(model.device)
    picture = torch.randn(rows, 3, SIZE, SIZE, generator=generator).to(model.device)
    cond = model.get_learned_conditioning(["a cat", "a dog", "", "x"][:rows])
    posterior = model.encode_first_stage(picture).parameters
    for t in (900, 500):
        x = x - 0.1 * model.apply_model(x, torch.full((rows,), t).to(x.device), cond)
    return {"text": cond, "latent": x, "encoded": posterior, "decoded": model.decode_first_stage(x)}


class Elsewhere(Mover):
    """Stands for a device with a memory of its own, which is the CPU's all the same."""

    def __init__(self) -> None:
        super().__init__(CPU, moves=True)


class Late(Elsewhere):
    """A device whose copies arrive at the last moment allowed, into memory that was dead before.

    A layer that computes before its copy has arrived, or after its memory was given away, reads
    NaN. The order of marks is held as well: a copy may begin only when the last reader of its
    memory is under way.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = 0
        self.last_read: dict[int, int] = {}
        self.pending: list[tuple] = []

    def _tick(self) -> int:
        self.clock += 1
        return self.clock

    def prefetch(self, piece, room, after):
        assert after > self.last_read.get(room.data_ptr(), 0), f"{piece.name} overtakes a reader"
        room.fill_(255)  # every float whose bits are all ones is NaN
        self.pending.append((piece, room))
        return self.pending[-1]

    def mark(self) -> int:
        return self._tick()

    def wait(self, arrival) -> None:
        while arrival in self.pending:
            self._arrive()
        self.last_read[arrival[1].data_ptr()] = self._tick()

    def join(self) -> None:
        while self.pending:
            self._arrive()

    def _arrive(self) -> None:
        piece, room = self.pending.pop(0)
        piece.copy_to(room)


def loads(ledger: Ledger) -> list[str]:
    return [event.stage for event in ledger.events if event.action == "load"]


def most_at_once(ledger: Ledger) -> int:
    """Return how many stages or layers were ever there together."""
    there, most = set(), 0
    for event in ledger.events:
        (there.add if event.action == "load" else there.discard)(event.stage)
        most = max(most, len(there))
    return most


def snapshot(model) -> dict:
    """Everything by which a model could differ from what it was."""
    return {
        "values": {
            name: (id(t), t.clone()) for name, t in model.state_dict(keep_vars=True).items()
        },
        "attributes": {name: sorted(vars(m)) for name, m in model.named_modules()},
    }


def assert_same(before: dict, after: dict) -> None:
    assert before["attributes"] == after["attributes"]
    assert before["values"].keys() == after["values"].keys()
    for name, (identity, value) in before["values"].items():
        assert after["values"][name][0] == identity and torch.equal(after["values"][name][1], value)
