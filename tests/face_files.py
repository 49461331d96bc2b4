"""A public-domain face; networks for faces, made up or tiny; a file of YuNet's form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ldm.faces.restorer import FaceRestorer

EYES = np.array([[204.0, 101.0], [246.5, 103.0]])
"""Of the astronaut, in the picture that scikit-image ships."""


def astronaut() -> Image.Image:
    """Return the picture of Eileen Collins by NASA, RGB of 512x512."""
    from skimage import data

    return Image.fromarray(data.astronaut())


def restorer_of(
    call: Callable[..., tuple[Tensor, None]], architecture: str = "RestoreFormer"
) -> FaceRestorer:
    """Return a restorer whose network is a function of (1, 3, 512, 512) in [-1, 1]."""
    network = SimpleNamespace(architecture=SimpleNamespace(name=architecture), model=call)
    return FaceRestorer(Path("made.pth"), network, torch.device("cpu"))


def write_restoreformer(path: Path) -> torch.nn.Module:
    """Write a tiny RestoreFormer of random weights; return it."""
    from spandrel.architectures.RestoreFormer import RestoreFormer

    sizes = {"n_embed": 4, "embed_dim": 8, "z_channels": 8, "ch": 32, "num_res_blocks": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = RestoreFormer(**sizes, ch_mult=(1, 1, 1, 1, 1, 1)).eval()
    torch.save({"state_dict": made.state_dict()}, path)
    return made


def write_onnx(path: Path, outputs: dict[str, np.ndarray], shape: tuple = (1, 3, 320, 320)) -> None:
    """Write a network whose outputs are always the same, whatever picture it is given."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    nodes, parts = [], [numpy_helper.from_array(np.zeros(1, np.float32), "zero")]
    nodes.append(helper.make_node("ReduceMean", ["input"], ["mean"], keepdims=0))
    nodes.append(helper.make_node("Mul", ["mean", "zero"], ["nothing"]))
    for name, value in outputs.items():
        parts.append(numpy_helper.from_array(value.astype(np.float32), f"of_{name}"))
        nodes.append(helper.make_node("Add", [f"of_{name}", "nothing"], [name]))
    tell = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "made",
        [tell("input", TensorProto.FLOAT, shape)],
        [tell(name, TensorProto.FLOAT, value.shape) for name, value in outputs.items()],
        parts,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    save(model, str(path))


def write_yunet(path: Path) -> None:
    """Write a network of YuNet's form that sees one face in every picture of 320x320.

    Its box is 80x96 around (168, 128); the eyes are at (152, 112) and (184, 112), nose and mouth
    below.
    """
    outputs = {}
    for stride in (8, 16, 32):
        count = (320 // stride) ** 2
        for name, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            outputs[f"{name}_{stride}"] = np.zeros((1, count, width), np.float32)
    row, column, stride = 8, 10, 16
    cell = row * (320 // stride) + column
    outputs["cls_16"][0, cell] = outputs["obj_16"][0, cell] = 1.0
    outputs["bbox_16"][0, cell] = (0.5, 0.0, np.log(80 / stride), np.log(96 / stride))
    points = [(152, 112), (184, 112), (168, 130), (156, 150), (180, 150)]
    outputs["kps_16"][0, cell] = (np.array(points) / stride - (column, row)).ravel()
    write_onnx(path, outputs)
