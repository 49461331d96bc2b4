"""The requests of the fuzzer are wrong, the server says so, and the fuzzer sees if it does not."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from contextlib import suppress

import pytest
from flat_server import flat_service, serving

from apps.server.application import make_application
from apps.server.keys import Keys
from benchmarks import server_fuzz as bench
from benchmarks.server_fuzz_requests import Case, Forge

CASE = Case("x", "POST", "/x", b'{"image": "/tmp/own.png"}')


def test_malformed_requests_of_all_kinds_get_4xx_and_one_line_and_open_nothing():
    keys = Keys({"fuzzer": hashlib.sha256(bench.KEY.encode()).hexdigest()})
    service, _ = flat_service()
    with serving(make_application(service, keys)) as port:
        found = bench.fuzz(port, count=91, seed=18)
        assert bench.draws(port)
    assert not found.faults, "\n".join(found.faults)
    assert found.visits == 0 and sum(found.statuses.values()) == 91


def test_the_requests_follow_from_the_seed_and_are_of_all_kinds():
    def made(seed: int) -> list[Case]:
        return list(Forge(seed, "127.0.0.1:1", ["/x"]).cases(130))

    assert made(1) == made(1) != made(2)
    assert len({case.kind for case in made(1)}) == 13


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (422, '{"error": "steps 0 was given; expected 1"}', ""),
        (400, '{"error": {"message": "no prompt", "type": "x"}}', ""),
        (400, "Invalid HTTP request received.", ""),
        (422, '{"error": "/tmp/own.png is no picture"}', ""),  # which is what was sent
        (200, "{}", "status 200"),
        (500, '{"error": "oh"}', "status 500"),
        (302, "", "status 302"),
        (422, '{"error": "/srv/model.ckpt is no file"}', "holds '/srv'"),
        (422, json.dumps({"error": f"it says {bench.SECRET}"}), "holds"),
        (422, '{"error": "one\\ntwo"}', "no clear line"),
        (422, '{"error": ""}', "no clear line"),
        (422, json.dumps({"error": "x" * 3000}), "no clear line"),
        (404, "Not Found", "no line"),
        (404, '{"detail": "Not Found"}', "no line"),
    ],
)
def test_only_4xx_with_one_line_that_tells_no_secret_is_right(status, body, fault, monkeypatch):
    monkeypatch.setattr(bench, "FORBIDDEN", (bench.SECRET, "/tmp", "/srv"))
    found = bench.fault_of(CASE, status, body.encode())
    assert (fault in found) if fault else not found


def test_a_visit_to_the_listener_is_seen():
    with bench.listener() as (address, visits):
        with suppress(OSError):
            urllib.request.urlopen(f"http://{address}/a.png", timeout=5)
        while not visits:
            pass
    assert len(visits) == 1


@pytest.mark.parametrize("flags", [["--requests", "0"], ["--seed", "x"]])
def test_wrong_flags_are_told(flags, capsys):
    with pytest.raises(SystemExit) as ended:
        bench.parse_args(flags)
    assert ended.value.code == 2 and "error" in capsys.readouterr().err
