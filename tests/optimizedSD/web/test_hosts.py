"""A page answers to its own names, and takes requests of its own origin."""

from __future__ import annotations

import socket

import pytest

from optimizedSD.web.hosts import Hosts, host_of


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "[::1]", "localhost", "192.168.1.5"])
def test_one_address_answers_to_itself_and_to_this_machines_names(address):
    hosts = Hosts(address)
    bare = address.strip("[]")
    own = f"[{bare}]" if ":" in bare else bare
    assert all(map(hosts.allow, [own, f"{own}:7860", "localhost:1", "127.0.0.1:7860", "[::1]:1"]))
    assert not any(map(hosts.allow, ["10.9.8.7", "[fe80::1]", socket.gethostname() + ".x", "x.y"]))


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "[::]"])
def test_all_addresses_answer_to_any_address_and_to_no_other_name(address):
    hosts = Hosts(address)
    own = socket.gethostname()
    assert all(map(hosts.allow, ["10.9.8.7:7860", "[fe80::1]:7860", own, f"{own.upper()}:1"]))
    assert not any(map(hosts.allow, ["evil.example", "10.9.8.7.evil.example", "1.2.3", "0x7f.1"]))


def test_a_name_may_be_added_later():
    hosts = Hosts("127.0.0.1")
    assert not hosts.allow("abc.example")
    hosts.add(host_of("https://ABC.example/path"))
    assert hosts.allow("abc.example:443")
    assert hosts.own_origin("https://abc.example", ["127.0.0.1:7860"])


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("http://localhost:7860", "localhost:7860", True),
        ("HTTP://localhost:7860", "localhost:7860", False),  # browsers send small letters
        ("http://localhost", "localhost:80", True),
        ("https://draw.example", "draw.example", True),
        ("https://draw.example:443", "draw.example", True),
        ("http://localhost:7861", "localhost:7860", False),
        ("http://127.0.0.1:7860", "localhost:7860", False),
        ("null", "localhost:7860", False),
        ("", "localhost:7860", False),
        ("localhost:7860", "localhost:7860", False),
        ("ftp://localhost:7860", "localhost:7860", False),
        ("http://localhost:7860/x", "localhost:7860", False),
    ],
)
def test_an_origin_is_the_host_that_is_asked(origin, host, own):
    assert Hosts("127.0.0.1").own_origin(origin, [host]) is own
