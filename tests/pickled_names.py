"""What Lightning, OmegaConf, argparse, numpy and pathlib put into checkpoints, and its names.

``python tests/pickled_names.py`` prints the names that a pickle of each of these objects asks for,
in the layout of ``ldm/checkpoint/known_names.py``. That table is the union over several releases:
run it with numpy 1 and 2 and with an old OmegaConf, and merge what is new. Packages that are not
installed are passed over, so that it also runs on an old Python without torch.
"""

# ruff: noqa: UP006, UP007, UP045 - typing's own objects are what is pickled here

from __future__ import annotations

import _compat_pickle
import argparse
import array
import collections
import collections.abc
import datetime
import decimal
import enum
import fractions
import importlib
import io
import logging
import numbers
import pathlib
import pickle
import random
import re
import time
import types
import typing
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

PROTOCOLS = range(2, 6)
# From Python 2's names, which protocol 2 writes, to those of Python 3.
NEW_MODULES, NEW_NAMES = _compat_pickle.IMPORT_MAPPING, _compat_pickle.NAME_MAPPING


class Colour(enum.Enum):
    """A choice as configurations have them; pickled, a call of its class."""

    RED = "red"


class Outer:
    """Holds a class, which protocols 2 and 3 name by ``getattr``."""

    class Inner:
        """The class within."""


def plain_objects() -> dict[str, Any]:
    """Objects of the standard library that hyperparameters hold."""
    types_of = (int, float, bool, str, bytes, list, dict, tuple, set, frozenset, complex, object)
    generic = (typing.Any, typing.List, typing.Dict, typing.Optional[int], typing.List[int])
    return {
        "types": [*types_of, type, type(None), range, slice, bytearray, pathlib.Path],
        "typing": [*generic, typing.Union[int, str], typing.Dict[str, int], typing.Tuple[int, ...]],
        "namespace": argparse.Namespace(a=1, b=argparse.Namespace(c=[2])),
        "simple namespace": types.SimpleNamespace(a=1),
        "numbers": [range(3), 2**70, 1j, slice(1, 2), bytearray(b"a"), {1}, frozenset({1}), b"a"],
        "singletons": [Ellipsis, NotImplemented, None],
        "exceptions": [ValueError, ValueError("a"), KeyboardInterrupt],
        "paths": [pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a"), pathlib.Path("a")],
        "containers": [
            collections.OrderedDict(a=1),
            collections.defaultdict(list, a=[1]),
            collections.defaultdict(dict),
            collections.Counter("aab"),
            collections.deque([1], maxlen=3),
        ],
        "times": [
            datetime.datetime(2022, 8, 1, tzinfo=datetime.timezone.utc),
            datetime.date(2022, 8, 1),
            datetime.time(1),
            datetime.timedelta(1),
            datetime.timezone(datetime.timedelta(hours=9)),
        ],
        "abstract types": [collections.abc.Sequence, collections.abc.Callable, numbers.Number],
        "own classes": [Outer, Outer.Inner, Outer(), Outer.Inner(), Colour, Colour.RED],
        "rarer": [
            collections.ChainMap({}, {"a": 1}),
            collections.UserDict(a=1),
            random.Random(1),
            time.gmtime(0),
            array.array("f", [1.0]),
            logging.getLogger("a"),
        ],
        "patterns": re.compile("a.*"),
        "exact numbers": [decimal.Decimal("0.1"), fractions.Fraction(1, 3), uuid.UUID(int=1)],
    }


def numpy_objects() -> dict[str, Any]:
    """Arrays, scalars of every type, element types, and generators of numpy."""
    import numpy as np

    kinds = [np.dtype(code).type for code in "?bBhHiIlLqQefdgFDGSUOMm"]
    plain = [kind for kind in kinds if kind not in (np.object_, np.void)]
    record = np.zeros(2, dtype=[("a", "f4"), ("b", "i8")])
    return {
        "scalars": [np.zeros(1, kind)[0] for kind in plain],
        "scalar types": [*kinds, np.void, np.ndarray, np.dtype, np.generic, np.number, np.floating],
        "element types": [np.dtype(kind) for kind in kinds],
        "classes of element types": [type(np.dtype(code)) for code in "?bBhHiIlLqQefdgFDGSUO"],
        "arrays": [np.zeros((2, 3)), np.zeros((2, 3)).T, np.array(1.0), np.zeros((4, 4))[::2, ::2]],
        "objects": np.array(["a", None, {"b": 1}], dtype=object),
        "records": [record, record[0], record.dtype, record.view(np.recarray)],
        "subclasses": [np.ma.array([1, 2], mask=[0, 1]), np.ma.masked, np.asmatrix(np.eye(2))],
        "generators": [np.random.RandomState(0), np.random.default_rng(0)],
        "seeds": [np.random.SeedSequence(0), np.random.Philox(0), np.random.PCG64(0)],
    }


def omegaconf_objects() -> dict[str, Any]:
    """Every kind of node, with flags, metadata, interpolations and a structured configuration."""
    import dataclasses

    import omegaconf
    from omegaconf import OmegaConf

    config = OmegaConf.create({"a": [1, "${b.c}", None, "???"], "b": {"c": 2.5, "d": [[True]]}})
    OmegaConf.set_readonly(config.b, True)
    OmegaConf.set_struct(config, True)
    values = {
        "AnyNode": 1,
        "StringNode": "a",
        "IntegerNode": 1,
        "FloatNode": 1.0,
        "BooleanNode": True,
        "BytesNode": b"a",
        "PathNode": pathlib.Path("a"),
    }
    nodes = [getattr(omegaconf, n)(v) for n, v in values.items() if hasattr(omegaconf, n)]
    empty_list, empty_dict = (dataclasses.field(default_factory=made) for made in (list, dict))
    fields = [("size", int, 4), ("colour", Colour, Colour.RED), ("x", Any, 1)]
    fields += [("names", typing.List[str], empty_list), ("more", typing.Dict[str, int], empty_dict)]
    fields.append(("limit", typing.Optional[float], None))
    structured = dataclasses.make_dataclass("Settings", fields)
    structured.__module__ = __name__
    globals()["Settings"] = structured
    found = {"config": config, "list": config.a, "nested": [config.b], "nodes": nodes}
    found["enum"] = omegaconf.EnumNode(Colour, Colour.RED)
    found["structured"] = OmegaConf.structured(structured)
    if hasattr(omegaconf, "UnionNode"):
        found["union"] = omegaconf.UnionNode(1, typing.Union[int, str])
    return found


def torch_objects() -> dict[str, Any]:
    """Objects of torch beside tensors, and the state of its schedulers."""
    import torch

    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    schedulers = torch.optim.lr_scheduler
    return {
        "values": [torch.float16, torch.device("cpu"), torch.Size([2])],
        "layout": torch.strided,
        "types": [torch.Tensor, torch.nn.Parameter, torch.nn.ReLU, torch.optim.AdamW],
        "module": torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.GELU()),
        "optimizer": optimizer.state_dict(),
        "schedulers": [
            schedulers.MultiStepLR(optimizer, [1, 2]).state_dict(),
            schedulers.OneCycleLR(optimizer, 0.1, 5).state_dict(),
            schedulers.CosineAnnealingWarmRestarts(optimizer, 2).state_dict(),
            schedulers.ReduceLROnPlateau(optimizer).state_dict(),
            schedulers.LambdaLR(optimizer, lambda step: step).state_dict(),
        ],
    }


def lightning_objects() -> dict[str, Any]:
    """The parts of a Lightning checkpoint, one that a Trainer wrote included."""
    import pytorch_lightning as pl
    from pytorch_lightning.utilities.parsing import AttributeDict

    callbacks = pl.callbacks
    made = [callbacks.ModelCheckpoint(monitor="loss"), callbacks.EarlyStopping("loss")]
    made += [callbacks.LearningRateMonitor(), callbacks.Timer(), callbacks.TQDMProgressBar()]
    states = importlib.import_module("pytorch_lightning.trainer.states")
    return {
        "callbacks": {type(one): one.state_dict() for one in made},
        "objects": made[:2],
        "state": [states.RunningStage.TRAINING, states.TrainerFn.FITTING, states.TrainerState()],
        "hyper_parameters": AttributeDict(a=1, b=AttributeDict(c=[1])),
        "written": _written_by_a_trainer(pl),
    }


def _written_by_a_trainer(pl: Any) -> dict[str, Any]:
    """Return the checkpoint of a trainer, without its tensors."""
    import torch

    class Model(pl.LightningModule):
        def __init__(self, width: int = 2, act: type = torch.nn.ReLU, where: Any = None):
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(width, 1)

        def training_step(self, batch: Any, _: int) -> Any:
            return self.layer(batch).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_steps=1, accelerator="cpu", enable_checkpointing=False, **quiet)
    trainer.fit(Model(where=pathlib.Path("a")), torch.utils.data.DataLoader(torch.zeros(2, 2)))
    return trainer._checkpoint_connector.dump_checkpoint()


FAMILIES = (plain_objects, numpy_objects, omegaconf_objects, torch_objects, lightning_objects)


def corpus() -> Iterator[tuple[str, Any]]:
    """Yield each object by name; families whose package is not installed are left out."""
    for family in FAMILIES:
        try:
            objects = family()
        except ImportError:
            continue
        kind = family.__name__.partition("_")[0]
        yield from ((f"{kind} {name}", value) for name, value in objects.items())


def pickled(value: Any, protocol: int) -> bytes:
    """Pickle as a checkpoint does: tensors' data is left out if torch is there to do so."""
    try:
        import torch
    except ImportError:
        return pickle.dumps(value, protocol)
    file = io.BytesIO()
    torch.save(value, file, pickle_protocol=protocol)
    with zipfile.ZipFile(file) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
        return archive.read(name)


class _Anything:
    """Stands for whatever a pickle names."""

    def __init__(self, *_args: Any, **_options: Any):
        pass

    def _swallow(self, *_args: Any) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = add = _swallow


def _attribute(*_args: Any) -> type:
    return _Anything


class _Recorder(pickle.Unpickler):
    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data))
        self.names: set[tuple[str, str]] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.names.add((module, name))
        return _attribute if name == "getattr" else _Anything

    def persistent_load(self, _key: Any) -> None:
        """Leave out a storage."""


def names_in(data: bytes) -> set[tuple[str, str]]:
    """Return the (module, name) that a pickle asks for, as it writes them; imports nothing."""
    recorder = _Recorder(data)
    recorder.load()
    return recorder.names


def names_of(objects: Iterable[Any]) -> dict[str, set[str]]:
    """Return the names in objects' pickles at all protocols, as Python 3 has them, by module."""
    table: dict[str, set[str]] = {}
    for value in objects:
        for protocol in PROTOCOLS:
            for module, name in names_in(pickled(value, protocol)):
                module, name = NEW_NAMES.get((module, name), (module, name))
                table.setdefault(NEW_MODULES.get(module, module), set()).add(name)
    return table


if __name__ == "__main__":
    for module, names in sorted(names_of(value for _, value in corpus()).items()):
        print(f"    {module!r}: {sorted(names)!r},")  # noqa: T201
