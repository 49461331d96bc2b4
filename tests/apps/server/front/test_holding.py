"""Pictures that requests bring take bounded memory: few are decoded at a time, few are kept."""

from __future__ import annotations

import asyncio

import pytest

from apps.server.front import holding
from apps.server.front.holding import READERS
from apps.server.refused import Refused


def test_what_is_kept_is_bounded_and_room_comes_back():
    held = holding.Holding(most=100)
    with held.kept(60):
        with pytest.raises(Refused) as caught, held.kept(41):
            pass
        assert caught.value.status == 429 and caught.value.retry_after > 0
        with held.kept(40), held.kept(0):
            pass
    with pytest.raises(KeyError), held.kept(100):
        raise KeyError
    with held.kept(100):
        pass


def test_no_more_than_a_few_pictures_are_decoded_at_a_time(monkeypatch):
    begun: list[int] = []

    async def all_of_them() -> list[int]:
        gate = asyncio.Event()

        async def in_a_thread(read):
            begun.append(1)
            await gate.wait()
            return read()

        monkeypatch.setattr(holding, "run_in_threadpool", in_a_thread)
        held = holding.Holding()
        tasks = [asyncio.ensure_future(held.read(lambda: 1)) for _ in range(3 * READERS)]
        for _ in range(20):  # turns of the loop, in which each could begin
            await asyncio.sleep(0)
        assert len(begun) == READERS
        gate.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(all_of_them()) == [1] * 3 * READERS


def test_a_key_has_one_request_at_a_time_and_others_do_not_wait_for_it():
    held = holding.Holding()
    with held.alone("a"), held.alone("b"):
        with pytest.raises(Refused) as caught, held.alone("a"):
            pass
        assert caught.value.status == 429 and caught.value.retry_after > 0
    with held.alone("a"):
        pass
