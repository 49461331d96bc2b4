"""Two processes train one adapter: gradients are averaged, and the model is not sent about."""

from __future__ import annotations

import sys

import pytest
import torch
import yaml
from preloaded import run_main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")


def record(runs, name: str, *arguments: str) -> list[dict]:
    """Train with a ``Recorder``; return what each process noted, of weights their end."""
    config, folder = runs.config({"target": "shifting_adapter.Shift"}), runs.folder / "records"
    config["data"]["params"]["train"]["params"]["templates"] = ["{}"]
    config["lightning"]["callbacks"]["recorder"] = {
        "target": "shifting_adapter.Recorder",
        "params": {"folder": str(folder)},
    }
    path = runs.folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    base = ("-b", path, "-t", "-n", name, "-l", runs.folder, "--max_steps", "2")
    code, output = run_main(*base, *arguments, cwd=runs.folder)
    assert code == 0, output
    return [torch.load(file, weights_only=True) for file in sorted(folder.glob("*.pt"))]


def test_two_processes_keep_one_adapter_and_one_model(runs):
    devices = ("--accelerator", "cpu", "--devices", "2", "--strategy", "ddp_fork")
    first, second = record(runs, "pair", *devices)
    assert first["seen"] != second["seen"]
    assert first["adapter"]["amount"].abs().max() > 0
    torch.testing.assert_close(first["adapter"], second["adapter"], rtol=0, atol=0)
    torch.testing.assert_close(first["gradients"], second["gradients"], rtol=0, atol=0)
    for process in (first, second):
        assert process["sent"] == ["adapter.amount"]
    saved = runs.checkpoint("pair")["state_dict"]["adapter.amount"]
    torch.testing.assert_close(saved, first["adapter"]["amount"], rtol=0, atol=0)
    names = [path.name for path in (runs.run("pair") / "adapter").iterdir()]
    assert names == ["pair.safetensors"]
