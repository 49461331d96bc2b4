"""Jobs in buckets: of one kind, in order, in bounded memory, none lost and none doubled."""

from __future__ import annotations

import itertools
import random

import pytest

from ldm.jobs.buckets import buckets, kind_of
from ldm.jobs.job import Job


def job(number, **values):
    return Job(number, number + 1, {"prompt": f"p{number}", "seed": number, **values})


def many(count, kinds=3):
    numbers = random.Random(0)
    return [job(n, ddim_steps=2 + numbers.randrange(kinds)) for n in range(count)]


@pytest.mark.parametrize("window", [1, 7, 20, 1000])
@pytest.mark.parametrize("kinds", [1, 3, 40])
def test_every_job_is_in_one_bucket_of_its_kind(window, kinds):
    jobs = many(60, kinds)
    found = list(buckets(jobs, 4, window))
    assert sorted(j.number for bucket in found for j in bucket) == list(range(60))
    assert all(1 <= len(bucket) <= 4 for bucket in found)
    assert all(len({kind_of(j) for j in bucket}) == 1 for bucket in found)
    for kind in {kind_of(j) for j in jobs}:
        same = [j.number for bucket in found for j in bucket if kind_of(j) == kind]
        assert same == sorted(same)


def test_buckets_are_full_but_for_the_last_of_each_kind():
    found = list(buckets(many(100), 4, window=30))
    short = [bucket for bucket in found if len(bucket) < 4]
    assert len(short) <= 3 and len({kind_of(bucket[0]) for bucket in short}) == len(short)


def test_the_window_bounds_what_is_read_ahead():
    read = itertools.count()
    endless = (job(next(read), ddim_steps=2 + n % 3) for n in itertools.count())
    for _ in itertools.islice(buckets(endless, 4, window=32), 20):
        pass
    assert next(read) <= 20 * 4 + 2 * 32


def test_kinds_without_end_do_not_fill_the_memory():
    read = []
    jobs = (read.append(n) or job(n, ddim_steps=2 + n) for n in range(1000))
    assert len(list(itertools.islice(buckets(jobs, 4, window=32), 5))) == 5
    assert len(read) <= 64


def test_prompts_seeds_and_scales_share_a_bucket_and_sizes_and_tags_do_not():
    same = [job(0, scale=3.0), job(1, scale=5.0, negative_prompt="x")]
    assert kind_of(same[0]) == kind_of(same[1])
    others = [
        job(2, scale=1.0),
        job(3, W=64),
        job(4, ddim_steps=9),
        job(5, prompt="a <lora:x:1>"),
        job(6, init_img="missing.png"),
    ]
    assert len({kind_of(each) for each in (same[0], *others)}) == 6
