"""The benchmark of the adapters that ship, run whole on a small untrained model and new ones."""

from __future__ import annotations

import pytest
import torch
from emoji_font import needs_font
from PIL import Image
from small_demo import write_small_demo

from benchmarks import adapters, reports
from ldm.adapters.control.writing import write_control
from ldm.adapters.ip_adapter import new_ip_adapter, write_ip_adapter
from ldm.adapters.lora import new_lora, write_lora
from ldm.adapters.textual_inversion.reading import read_embedding
from ldm.checkpoint.load import load_model
from ldm.modules.diffusionmodules.t2i_adapter import T2IAdapter

SMALL = ["--n", "2", "--batch_size", "1", "--steps", "1"]


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """Return the flags of a small model and a folder of adapters that learned nothing."""
    folder = tmp_path_factory.mktemp("adapters")
    config, ckpt = write_small_demo(folder)
    model, _ = load_model(config, ckpt)
    files = {name: folder / place for name, place in adapters.FILES.items()}
    for file in files.values():
        file.parent.mkdir(exist_ok=True)
    write_lora(new_lora(model, 2), files["outline"], "kohya")
    torch.save({"string_to_param": {"*": torch.randn(2, 192)}}, files["tangerine"])
    network = T2IAdapter(3, [32, 64, 64], 1, light=True)
    write_control(network, files["boxes"], "TencentARC")
    write_ip_adapter(new_ip_adapter(model, 2, encoder="unet 1"), files["picture"])
    return ["--config", str(config), "--ckpt", str(ckpt), "--adapters", str(folder), *SMALL]


@needs_font
def test_every_adapter_is_measured_and_the_result_is_written(flags, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(reports, "RESULTS", tmp_path / "results")
    files = ["--sheet", str(tmp_path / "sheets"), "--row", str(tmp_path / "row.png")]
    assert adapters.main([*flags, "--save", "small", *files]) == 0
    printed = capsys.readouterr().out
    saved = (tmp_path / "results/adapters-small.md").read_text(encoding="utf-8")
    assert saved == f"# Adapters that ship\n\n{printed}"
    named = [
        line.split("|")[1].split("(")[0].strip()
        for line in printed.splitlines()
        if "(" in line and line.startswith("|")
    ]
    assert named == ["outline"] * 2 + ["tangerine"] + ["boxes"] * 2 + ["picture"] * 2
    sheets = sorted(path.name for path in (tmp_path / "sheets").iterdir())
    with Image.open(tmp_path / "row.png") as row:
        assert row.width / row.height > 12  # 14 pictures
    assert sheets == ["boxes.png", "outline.png", "picture.png", "tangerine.png"]


@needs_font
def test_the_model_draws_without_the_adapter_afterwards(flags):
    args = adapters.parse_args(flags)
    model, _ = load_model(args.config, args.ckpt)
    for value in model.model.parameters():
        if not value.any():  # a new model's last layers are zeros, and heed no prompt
            torch.nn.init.normal_(value, std=0.1)
    bench = adapters.Bench(model, args)
    before = bench.draw(["a demo-tangerine", "a cat"])
    embedding = read_embedding(f"{args.adapters}/embeddings/demo-tangerine.pt")
    with_it = bench.draw(["a demo-tangerine", "a cat"], lambda rows: embedding.attach(model))
    assert torch.equal(bench.draw(["a demo-tangerine", "a cat"]), before)
    assert not torch.equal(with_it[0], before[0]) and torch.equal(with_it[1], before[1])


def test_bad_settings_are_one_line(flags, capsys):
    assert adapters.main([*flags[:-6], "--n", "0"]) == 2
    assert capsys.readouterr().err == "--n 0 was given; expected 1 or more; correct it\n"
    assert adapters.main([*flags, "--adapters", "nowhere", "--only", "outline"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_pictures_that_exist_are_named_before_anything_is_drawn(flags, tmp_path, capsys):
    (tmp_path / "row.png").write_bytes(b"mine")
    assert adapters.main([*flags, "--only", "outline", "--row", str(tmp_path / "row.png")]) == 2
    assert "row.png exists" in capsys.readouterr().err
    assert (tmp_path / "row.png").read_bytes() == b"mine"
