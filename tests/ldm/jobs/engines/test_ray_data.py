"""Workers on a Ray cluster: nothing is lost and nothing doubled, whoever dies."""

from __future__ import annotations

import os
import pickle
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")

from batch_runs import (  # noqa: E402
    numbers_written,
    pictures_in,
    plan_of,
    records_in,
    write_jsonl,
)
from batch_workers import PaintingWorker, RefusingWorker  # noqa: E402

from ldm.errors import UserError  # noqa: E402
from ldm.jobs.engines import local, ray_data  # noqa: E402
from ldm.jobs.engines.ray_actor import Answer, Drawer, Size, portions, read, row  # noqa: E402
from ldm.jobs.records import Record  # noqa: E402

TESTS = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two cores on this machine, which the engine finds and leaves as it is."""
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "RAY_USAGE_STATS_ENABLED")}
    os.environ |= {
        "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    assert ray.is_initialized()
    ray.shutdown()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def plan(tiny_ckpt, tmp_path):
    """Return the plan that draws prompts into a folder."""

    def plan(prompts, out="out", **given):
        rows = [{"prompt": prompt, "seed": seed} for seed, prompt in enumerate(prompts)]
        jobs = write_jsonl(tmp_path / "jobs.jsonl", rows)
        given = {"batch_size": 2, "workers": 2, "engine": "ray", **given}
        return plan_of(jobs, tmp_path / out, tiny_ckpt, **given)

    return plan


def paint(plan, worker=PaintingWorker):
    told = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = list(ray_data.run(plan, lambda event: told.append(event.text), worker))
    return {record.number: record for record in found}, told


@pytest.fixture
def as_actor(monkeypatch):
    """Let an actor be made in this process, for the first time or after its death."""

    def as_actor(plan, *, again=False, worker=PaintingWorker):
        context = SimpleNamespace(
            get_actor_id=lambda: "0123456789abcdef0123", was_current_actor_reconstructed=again
        )
        monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        return Drawer(plan, worker)

    return as_actor


def answer_of(rows) -> Answer:
    return pickle.loads(rows["said"][0])


def test_nothing_is_lost_or_drawn_twice_whoever_dies_and_the_bytes_are_those_of_local_workers(
    cluster, plan, tmp_path, monkeypatch
):
    # One run for all of it, as a pool of actors takes seconds to come up.
    monkeypatch.setattr(ray_data, "RETRIES", 1)
    monkeypatch.setattr(ray_data, "_sizes", lambda _: [Size(2, 2), Size(1, 1, left_undone=True)])
    prompts = [f"p{n}" for n in range(14)]
    list(local.run(plan(prompts, "local", workers=1), lambda _: None, PaintingWorker))
    prompts[1], prompts[6], prompts[12] = f"die once {tmp_path / 'died'}", "die", "fail"
    found, told = paint(plan(prompts))

    assert sorted(found) == list(range(14))
    errors = {number: each.error for number, each in found.items() if each.error}
    assert sorted(errors) == [6, 12], "who shares a portion with a job that kills is drawn"
    assert errors[6] == "its Ray actors died while they drew it" and "no paint" in errors[12]
    assert any("died, and Ray has started it again" in text for text in told)
    assert any("tried again" in text for text in told)
    assert numbers_written(tmp_path / "out") == list(range(14)), "none is drawn again"
    names = {f"{number:08d}.png" for number in errors}
    drawn, whole = (pictures_in(tmp_path / name) for name in ("out", "local"))
    assert drawn == {name: each for name, each in whole.items() if name not in names}


@pytest.fixture
def answers(monkeypatch):
    """Let passes bring these answers, without Ray; return the sizes that were asked for."""
    sizes = []

    def answers(*passes):
        left = iter(passes)

        def bring(plan, pool, size):
            sizes.append(size)
            yield from next(left)

        monkeypatch.setattr(
            ray_data, "_cluster", lambda *_: nullcontext(ray_data._Pool(2, 1, 0, None))
        )
        monkeypatch.setattr(ray_data, "_answers", bring)
        return sizes

    return answers


ONE = Answer(records=(Record(0, "", name="0000/00000000.png"),))


def test_a_pass_that_brought_all_is_the_last(plan, answers):
    sizes = answers([ONE, Answer(total=1)])
    assert list(paint(plan(["p0"]))[0]) == [0] and len(sizes) == 1


def test_where_ray_dropped_a_portion_smaller_ones_follow(plan, answers):
    sizes = answers([ONE, Answer(total=3)], [Answer(total=2), ONE, ONE])
    _, told = paint(plan(["p0"]))
    assert sizes == [Size(4, 2, tail=8), Size(1, 2, left_undone=True)] and "tried again" in told[0]


def test_where_ray_lost_the_reader_another_pass_follows(plan, answers):
    sizes = answers([ONE], [Answer(total=0)])
    assert list(paint(plan(["p0"]))[0]) == [0] and len(sizes) == 2


def test_what_an_actor_refuses_ends_the_run_in_its_words(plan, answers):
    answers([Answer(notices=(("a word", True),), refused="the checkpoint lacks weights")])
    with pytest.raises(UserError, match="^the checkpoint lacks weights"):
        paint(plan(["p0"]))


def test_a_fault_of_the_program_is_told_with_its_trace(plan, answers):
    answers([Answer(failed="Traceback: deep down")])
    with pytest.raises(RuntimeError, match="deep down"):
        paint(plan(["p0"]))


def test_actors_that_die_before_they_have_drawn_end_the_run(plan, answers):
    answers([Answer(total=1)])
    with pytest.raises(UserError, match="died before one had drawn a picture"):
        paint(plan(["p0"]))


def test_a_cluster_that_is_not_there_is_told_in_one_line(plan, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)

    def init(**given):
        assert given["address"] == "10.0.0.1:6379" and "num_cpus" not in given
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UserError, match=r"10.0.0.1:6379 cannot be reached \(.*nobody answers"):
        paint(plan(["p0"], ray_address="10.0.0.1:6379"))


@pytest.mark.parametrize("package", ["ray", "ray.data"])
def test_who_has_no_ray_is_told_what_to_install(plan, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r'pip install -e "\.\[ray\]"'):
        paint(plan(["p0"]))


def test_every_job_is_in_one_portion(plan):
    run = plan([f"p{n}" for n in range(11)])
    cut = list(portions(run, Size(2, 2)))
    assert [[job.number for bucket in portion for job in bucket] for portion in cut] == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10],
    ]  # fmt: skip
    ending = [[len(bucket) for bucket in portion] for portion in portions(run, Size(2, 2, tail=3))]
    assert ending == [[2, 2], [2], [2], [2], [1]], "the last three of six, and what is no portion"
    rows = [answer_of(each) for each in read({}, run, Size(2, 2))]
    assert rows[:-1] == cut and rows[-1] == Answer(total=11)


def test_what_failed_is_tried_in_the_first_pass_and_not_once_more(plan, as_actor):
    run = plan(["fail", "p1"])
    for portion in portions(run, Size(1, 2)):
        as_actor(run)(row(portion))
    assert [job.number for (bucket,) in portions(run, Size(1, 2)) for job in bucket] == [0]
    assert list(portions(run, Size(1, 2, left_undone=True))) == []


def test_an_actor_that_died_draws_only_what_it_had_not_recorded(plan, as_actor, tmp_path):
    run = plan(["p0", "p1", "p2", "p3"])
    first, second = (bucket for (bucket,) in portions(run, Size(1, 2)))
    before = answer_of(as_actor(run)(row((first,))))
    picture = tmp_path / "out" / "0000" / "00000000.png"
    picture.unlink()  # whoever draws it again puts it back
    drawer = as_actor(run, again=True)
    after = answer_of(drawer(row((first, second))))
    assert [each.number for each in after.records] == [0, 1, 2, 3]
    assert [each.sha256 for each in after.records[:2]] == [each.sha256 for each in before.records]
    assert not picture.exists() and "started it again" in after.notices[0][0]
    assert answer_of(drawer(row(()))) == Answer(), "it says so once"


def test_a_portions_pictures_do_not_wait_for_their_shard_to_fill(plan, as_actor, tmp_path):
    pytest.importorskip("webdataset")
    run = plan(["p0", "p1", "p2"], format="webdataset", shard_size=1000)
    drawer = as_actor(run)
    for portion in portions(run, Size(1, 2)):
        drawer(row(portion))
    assert sorted(records_in(tmp_path / "out")) == [0, 1, 2]


def test_what_a_worker_refuses_is_answered(plan, as_actor):
    run = plan(["p0"])
    drawer = as_actor(run)
    drawer._worker.start = lambda _: RefusingWorker.load(drawer._worker)
    (portion,) = portions(run, Size(1, 2))
    assert answer_of(drawer(row(portion))).refused == "the checkpoint lacks weights"


def test_an_actor_computes_with_its_threads_and_passes_the_readers_words_on(plan, as_actor):
    drawer = as_actor(plan(["p0"], threads=3))
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert answer_of(drawer(row(Answer(total=7)))) == Answer(total=7)


def test_what_cannot_be_read_is_told_by_the_reader(plan, tmp_path):
    run = plan(["p0"])
    (tmp_path / "jobs.jsonl").unlink()
    refused, total = (answer_of(each) for each in read({}, run, Size(1, 2)))
    assert "jobs.jsonl" in refused.refused and total == Answer(total=0)


@pytest.mark.parametrize(("device", "gpus"), [("auto", 1), ("cuda", 1), ("cpu", 0)])
def test_actors_take_a_gpu_each_where_there_are_any(plan, monkeypatch, device, gpus):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0})
    pool = ray_data._pool(plan(["p0"], device=device), PaintingWorker)
    assert (pool.gpus, pool.actors, pool.threads) == (gpus, 2, 1)


def test_a_gpu_of_a_certain_number_is_refused(plan, monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0})
    with pytest.raises(UserError, match="--device cuda:1 .* leave the number out"):
        ray_data._pool(plan(["p0"], device="cuda:1"), PaintingWorker)


def test_a_portion_of_shards_is_a_shard(plan):
    sizes = ray_data._sizes(plan(["p0"], format="parquet", shard_size=100, batch_size=8))
    assert sizes[0] == Size(13, 8) and not sizes[0].left_undone
    assert sizes[-1] == Size(1, 1, left_undone=True)
