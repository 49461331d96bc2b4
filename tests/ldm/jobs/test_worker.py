"""A worker: pictures as alone, smaller batches where memory lacks, errors that cost one picture."""

from __future__ import annotations

import hashlib
import shutil

import pytest
import torch
from batch_runs import mixed_rows, pictures_in, plan_of, records_in, write_csv, write_jsonl
from safetensors.torch import load_file, save_file
from small_pictures import flat

from ldm.errors import UserError
from ldm.images.io import encode_picture
from ldm.jobs import worker as worker_module
from ldm.jobs.base import StoreError
from ldm.jobs.run import remaining
from ldm.jobs.worker import Worker
from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.pipelines import together
from ldm.pipelines.pipeline import Pipeline


@pytest.fixture
def plan(tiny_ckpt, tmp_path):
    def plan(rows, out="out", **given):
        jobs = write_jsonl(tmp_path / "jobs.jsonl", rows)
        return plan_of(jobs, tmp_path / out, given.pop("ckpt", tiny_ckpt), **given)

    return plan


def drawn(plan, jobs=None):
    """Draw what is left; return the records by number, and what was told."""
    told = []
    with Worker(plan, "one", observer=lambda event: told.append(event.text)) as worker:
        records = list(worker.draw(remaining(plan) if jobs is None else jobs))
        records += worker.close()
    return {record.number: record for record in records}, told


def short(count):
    return [{"prompt": f"p{n}", "seed": n, "ddim_steps": 2} for n in range(count)]


def test_pictures_are_those_of_lone_runs_whatever_the_batch_and_the_order(
    plan, tiny_ckpt, tmp_path
):
    rows = mixed_rows(5)
    jobs = list(remaining(plan(rows)))
    pipeline = Pipeline.load(tiny_ckpt, device="cpu")
    alone = {}
    for job in jobs:
        (picture,) = pipeline.generate(job.settings)
        data = encode_picture(picture.pixels, "png", picture.parameters)
        alone[f"{job.number:08d}.png"] = hashlib.sha256(data).hexdigest()
    for size, order in ((1, jobs), (3, jobs[::-1])):
        drawn(plan(rows, f"out{size}", batch_size=size), order)
        assert pictures_in(tmp_path / f"out{size}") == alone
    assert len(set(alone.values())) == 5


def test_records_are_of_the_files_that_are_there(plan, tmp_path):
    found, _ = drawn(plan(short(3)))
    files = pictures_in(tmp_path / "out")
    assert {r.name.partition("/")[2]: r.sha256 for r in found.values()} == files
    assert dict(records_in(tmp_path / "out")).keys() == found.keys()
    assert all(r.seconds > 0 and r.worker == "one" and not r.error for r in found.values())


def refusing(monkeypatch, refuse):
    """Let batches be refused: ``refuse(requests)`` raises, or does nothing."""
    decode, seen = together.decode_together, []

    def decode_together(pipeline, requests, **rest):
        seen.append(len(requests))
        refuse(requests)
        yield from decode(pipeline, requests, **rest)

    monkeypatch.setattr(together, "decode_together", decode_together)
    return seen


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_lack_of_memory_halves_the_batch_from_then_on(plan, tmp_path, monkeypatch, error):
    drawn(plan(short(10), "whole"))

    def refuse(requests):
        if len(requests) > 2:
            raise error

    seen = refusing(monkeypatch, refuse)
    found, told = drawn(plan(short(10), batch_size=5))
    # The first five are halved twice; the others come in twos.
    assert seen[0] == 5 and max(seen[1:]) <= 3 and seen[-1] <= 2
    assert not any(record.error for record in found.values())
    assert pictures_in(tmp_path / "out") == pictures_in(tmp_path / "whole")
    assert any("memory does not suffice for 5 pictures" in text for text in told)


def test_one_picture_that_memory_does_not_hold_costs_itself_alone(plan, monkeypatch):
    def refuse(requests):
        if any(request.settings.prompt == "p2" for request in requests):
            raise UserError("does not fit") from MemoryError()

    refusing(monkeypatch, refuse)
    found, _ = drawn(plan(short(4), batch_size=4))
    assert {n: r.error for n, r in found.items() if r.error} == {2: "does not fit"}


def test_what_spoils_a_batch_is_found_and_the_others_are_drawn(plan, monkeypatch):
    def refuse(requests):
        if any(request.settings.prompt == "p5" for request in requests):
            raise RuntimeError("poison")

    seen = refusing(monkeypatch, refuse)
    found, _ = drawn(plan(short(8), batch_size=8))
    assert [n for n, record in found.items() if record.error] == [5]
    assert found[5].error.endswith("poison")
    assert len(seen) == 7  # 8, 4, 4, 2, 1, 1, 2


def test_a_broken_picture_to_start_from_costs_its_line(plan, tmp_path):
    flat(tmp_path / "good.png", (90, 9, 9), (16, 16))
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "broken.png").write_bytes(whole[: len(whole) // 2])
    rows = [
        {"prompt": "a", "seed": n, "init_img": name, "ddim_steps": 4, "strength": 0.5}
        for n, name in enumerate(["good.png", "broken.png", "good.png"])
    ]
    found, _ = drawn(plan(rows))
    assert [bool(found[n].error) for n in range(3)] == [False, True, False]
    assert "broken.png" in found[1].error


def test_a_picture_that_was_replaced_since_the_run_began_costs_its_line(plan, tmp_path):
    for name in ("kept", "new"):
        flat(tmp_path / f"{name}.png", (90, 9, 9), (16, 16))
    rows = [
        {"prompt": "a", "seed": n, "init_img": f"{name}.png", "ddim_steps": 4, "strength": 0.5}
        for n, name in enumerate(["kept", "new"])
    ]
    jobs = list(remaining(plan(rows)))
    flat(tmp_path / "new.png", (9, 90, 9), (16, 16))
    found, _ = drawn(plan(rows), jobs)
    assert "has changed since the run began" in found[1].error and not found[0].error
    found, _ = drawn(plan(rows))
    assert list(found) == [1] and not found[1].error


def test_a_model_that_was_replaced_since_the_run_began_ends_it(plan, tiny_ckpt, tmp_path):
    shutil.copytree(tiny_ckpt.parent, tmp_path / "model")
    ckpt = tmp_path / "model" / tiny_ckpt.name
    replaced = plan(short(2), ckpt=ckpt)
    jobs = list(remaining(replaced))
    save_file({k: v + v for k, v in load_file(ckpt).items()}, ckpt)
    with pytest.raises(UserError, match="model .* has changed since the run began"):
        drawn(replaced, jobs)
    assert not pictures_in(tmp_path / "out")


def test_no_worker_chooses_an_arithmetic_for_itself(plan):
    with pytest.raises(UserError, match="--precision auto .* each worker would measure"):
        drawn(plan(short(1), precision="auto"))
    rows = short(2)
    rows[1]["precision"] = "auto"
    found, _ = drawn(plan(rows, "lines"))
    assert "--precision auto" in found[1].error and not found[0].error


def test_nan_costs_its_picture(plan, monkeypatch):
    decode, calls = LatentSpaceDiffusion.decode_first_stage, []

    def poisoned(self, z, *rest, **more):
        calls.append(len(z))
        decoded = decode(self, z, *rest, **more)
        return decoded * float("nan") if len(calls) == 2 else decoded

    monkeypatch.setattr(LatentSpaceDiffusion, "decode_first_stage", poisoned)
    found, _ = drawn(plan(short(4)))
    errors = [record.error for record in found.values() if record.error]
    assert len(errors) == 1 and "NaN" in errors[0] and len(found) == 4


def test_failures_without_end_stop_the_run(plan, monkeypatch):
    def refuse(requests):
        raise RuntimeError("the device is gone")

    refusing(monkeypatch, refuse)
    monkeypatch.setattr(worker_module, "MOST_IN_A_ROW", 3)
    with pytest.raises(UserError, match="3 pictures in a row failed.*device is gone"):
        drawn(plan(short(8), batch_size=2))


def test_a_full_disk_ends_the_run_and_leaves_the_manifest_true(plan, tmp_path, monkeypatch):
    plan = plan(short(6), batch_size=1)
    put, names = type(plan.store).put, []

    def full(self, name, data):
        names.append(name)
        if len(names) > 3:
            raise StoreError("no space left")
        put(self, name, data)

    monkeypatch.setattr(type(plan.store), "put", full)
    with pytest.raises(StoreError, match="no space left"):
        drawn(plan)
    monkeypatch.setattr(type(plan.store), "put", put)
    there = records_in(tmp_path / "out")
    assert {picture.name.partition("/")[2] for picture in there.values()} == {
        *pictures_in(tmp_path / "out")
    }
    assert len(there) == 3
    drawn(plan)
    assert len(pictures_in(tmp_path / "out")) == len(records_in(tmp_path / "out")) == 6


def test_a_worker_computes_with_the_threads_that_the_run_says(plan):
    before = torch.get_num_threads()
    with Worker(plan(short(1), threads=before + 2), "one") as worker:
        worker.load()
        assert torch.get_num_threads() == before + 2
    assert torch.get_num_threads() == before


def test_a_worker_that_loads_nothing_leaves_nothing(plan, tmp_path):
    with Worker(plan(short(1)), "idle") as worker:
        assert list(worker.draw([])) == [] and list(worker.close()) == []
    assert not (tmp_path / "out").exists()


def test_csv_and_jsonl_of_the_same_rows_are_the_same_pictures(tiny_ckpt, tmp_path):
    rows = mixed_rows(3)
    for name, jobs in (
        ("a", write_csv(tmp_path / "a.csv", rows)),
        ("b", write_jsonl(tmp_path / "b.jsonl", rows)),
    ):
        drawn(plan_of(jobs, tmp_path / name, tiny_ckpt))
    assert pictures_in(tmp_path / "a") == pictures_in(tmp_path / "b")
