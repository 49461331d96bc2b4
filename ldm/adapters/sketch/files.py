"""Read and write edge predictors: safetensors, with the names of the blocks in the metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ldm.adapters.checks import load_exactly, require_finite
from ldm.adapters.report import Report
from ldm.adapters.sketch.features import KIND
from ldm.adapters.sketch.predictor import EdgePredictor
from ldm.checkpoint.io import read_checkpoint
from ldm.checkpoint.write import save_safetensors, size_of, whole
from ldm.errors import UserError

ENTRY = "edge_predictor"
"""The metadata's entry: JSON with blocks, widths, hidden, out_channels and base."""
MOST_BLOCKS, WIDEST = 64, 2**15


def write_edge_predictor(predictor: EdgePredictor, path: str | Path) -> None:
    """Write a predictor."""
    state = {n: v.detach().cpu().contiguous() for n, v in predictor.state_dict().items()}
    convolutions = [m for m in predictor.layers if isinstance(m, torch.nn.Conv2d)]
    described = {
        "blocks": predictor.blocks,
        "widths": predictor.widths,
        "hidden": [each.in_channels for each in convolutions],
        "out_channels": convolutions[-1].out_channels,
        "base": predictor.report.base,
    }
    with whole(Path(path), size_of(state)) as part:
        save_safetensors(state, part, {"format": "pt", ENTRY: json.dumps(described)})


def read_edge_predictor(path: str | Path) -> EdgePredictor:
    """Read a predictor.

    Raises:
        UserError: It is none, or damaged.
    """
    file = read_checkpoint(path)
    described = _described(file.path, file.metadata.get(ENTRY))
    report = Report(file.path, KIND, "ldm", str(described.get("base", "unknown"))[:100])
    report.modules = len(described["blocks"])
    require_finite(file.path, KIND, file.tensors)
    sizes = (described[name] for name in ("blocks", "widths", "out_channels", "hidden"))
    with torch.device("meta"):
        predictor = EdgePredictor(*sizes, report=report)
    report.unused = load_exactly(predictor, file.tensors, file.path, KIND)
    return predictor.eval()


def _described(path: Path, text: str | None) -> dict[str, Any]:
    """Return what the metadata says.

    Raises:
        UserError: It says nothing, or nothing that can be.
    """
    try:
        found = json.loads(text or "")
        blocks, numbers = found["blocks"], [*found["widths"], *found["hidden"]]
        good = (
            0 < len(blocks) <= MOST_BLOCKS
            and all(isinstance(name, str) and len(name) < 100 for name in blocks)
            and len(found["widths"]) == len(blocks)
            and 0 < len(found["hidden"]) <= MOST_BLOCKS
            and all(type(n) is int and 0 < n <= WIDEST for n in [*numbers, found["out_channels"]])
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        good = False
    if not good:
        raise UserError(
            f"{str(path)!r} is no edge predictor for guidance by a {KIND}: its metadata does not "
            f"name blocks and widths under {ENTRY!r}; expected a file that main.py with "
            "configs/adapters/sketch.yaml or write_edge_predictor made; give one"
        )
    return found
