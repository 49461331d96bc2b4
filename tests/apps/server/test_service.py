"""Jobs are checked at once, drawn together where they fit, shared fairly, and end one way each."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from PIL import Image

from apps.server.asking import PictureJob, TextJob, settings_of
from apps.server.pace import Pace
from apps.server.refused import Refused
from apps.server.service import Service, Terms
from ldm.errors import UserError
from ldm.images.embed import parameters_in
from ldm.settings.generation import Txt2ImgSettings
from optimizedSD.web.limits import Limits


def job(prompt: str = "a cat", **values):
    return settings_of({"prompt": prompt, "ddim_steps": 2, "seed": 7, **values}, TextJob)


@pytest.fixture
def busy(serve, drawer):
    """A service that draws a first job and does not get on, so that others queue up."""

    def start(**terms):
        service = serve(**terms)
        drawer.gate.clear()
        first = service.submit(job("first"), "first")
        drawer.wait_for_batches(1)
        return service, first

    return start


def finish(drawer, *tickets) -> list[list[str]]:
    """Let everything be drawn; return the batches after the first one."""
    drawer.gate.set()
    for ticket in tickets:
        assert ticket.wait(20.0)
        ticket.check()
    return drawer.batches[1:]


def test_a_picture_is_a_png_with_the_recipe_of_its_own_seed(serve):
    ticket = serve().submit(job(n_samples=2, n_iter=2))
    assert ticket.wait(20.0)
    ticket.check()
    assert [each.seed for each in ticket.pictures] == [7, 8, 9, 10]
    for each in ticket.pictures:
        with Image.open(io.BytesIO(each.png)) as image:
            assert image.size == each.size == (64, 64)
            assert image.getpixel((0, 0)) == (each.seed,) * 3
            assert f"Seed: {each.seed}" in parameters_in(image)


def test_what_fits_together_is_drawn_together_up_to_the_batch_size(busy, drawer):
    service, first = busy(batch_size=3)
    rest = [service.submit(job(f"p{n}", seed=n, scale=1.5 + n), f"k{n}") for n in range(4)]
    other = service.submit(job("other", ddim_steps=3), "x")
    assert finish(drawer, first, other, *rest) == [["p0", "p1", "p2"], ["p3"], ["other"]]


def test_keys_take_turns_also_within_a_batch(busy, drawer):
    service, first = busy(batch_size=4)
    greedy = service.submit(job("greedy", n_samples=6), "a")
    modest = service.submit(job("modest"), "b")
    batches = finish(drawer, first, greedy, modest)
    assert "modest" in batches[0] and batches[0].count("greedy") == 3


def test_a_batch_is_no_larger_than_the_model_can_hold_of_that_size(busy, drawer):
    service, first = busy(batch_size=8, limits=Limits(side=64))
    whole = service.submit(job("x", n_samples=6))
    assert [len(batch) for batch in finish(drawer, first, whole)] == [4, 2]


def test_an_idle_model_waits_for_company_but_not_for_long(drawer):
    """Time stands still: a picture alone would wait forever, a full batch and another group not."""
    service = Service(lambda: drawer, terms=Terms(batch_size=3, max_wait=1.0), clock=lambda: 0.0)
    service.start()
    try:
        assert service.loaded.wait(20.0)
        three = [service.submit(job(name)) for name in "xyz"]
        assert all(ticket.wait(20.0) for ticket in three) and drawer.batches == [[*"xyz"]]
        odd = [service.submit(job("c")), service.submit(job("d", ddim_steps=3))]
        assert odd[0].wait(20.0) and drawer.batches[1] == ["c"]
        assert not odd[1].ended  # nobody else waits: it hopes for company
    finally:
        assert service.close(20.0)


def test_as_many_batches_are_drawn_at_a_time_as_there_are_models(drawer):
    drawer.at_once = 2
    drawer.gate.clear()
    service = Service(lambda: drawer, terms=Terms(batch_size=1, max_wait=0.0))
    service.start()
    try:
        assert service.loaded.wait(20.0)
        three = [service.submit(job(name)) for name in "abc"]
        assert drawer.wait_for_batches(2) == [["a"], ["b"]] and service.waiting == 1
        drawer.gate.set()
        for ticket in three:
            assert ticket.wait(20.0)
            ticket.check()
    finally:
        drawer.gate.set()
        assert service.close(20.0)


BAD = [
    (job(H=100), "multiple of 16"),
    (job(W=640), "--max_side of this server"),
    (job(n_samples=17), "--max_pictures of this server"),
    (job(ddim_steps=201), "--max_steps of this server"),
    (job("x" * 2001), "--max_prompt of this server"),
    (replace(job(), sampler="magic"), "--sampler magic"),
    (replace(job(), n_samples="2"), "--n_samples 2"),
    (job(seed=2**64 - 1, n_samples=2), "--seed"),
    (job("<lora:none:1>"), "models/lora"),
]


@pytest.mark.parametrize(("settings", "told"), BAD, ids=[told for _, told in BAD])
def test_what_cannot_be_drawn_is_refused_before_it_is_queued(serve, drawer, settings, told):
    service = serve(limits=Limits(side=256, where="server"))
    with pytest.raises(UserError) as caught:
        service.submit(settings)
    assert told in str(caught.value) and drawer.batches == [] and len(service.kept) == 0


def test_a_picture_to_start_from_is_fitted_and_too_large_a_result_refused(serve):
    service = serve(limits=Limits(side=128))
    photo = Image.new("RGB", (70, 100))
    ticket = service.submit(settings_of({"seed": 1}, PictureJob), image=photo)
    assert ticket.wait(20.0) and ticket.pictures[0].size == (64, 96)
    assert "resized to 64x96" in " ".join(ticket.snapshot().notices)
    with pytest.raises(UserError, match="expected at most 128"):
        service.submit(settings_of({}, PictureJob), image=Image.new("RGB", (256, 64)))


def test_a_full_queue_and_a_keys_full_share_are_429_with_the_time_to_wait(busy, drawer):
    service, first = busy(queued=3, queued_of_key=2)
    mine = service.submit(job(n_samples=2), "a")
    with pytest.raises(Refused, match="2 pictures of your key wait already") as caught:
        service.submit(job(), "a")
    assert caught.value.status == 429 and int(caught.value.headers["Retry-After"]) >= 1
    other = service.submit(job(), "b")
    with pytest.raises(Refused, match="3 pictures wait already"):
        service.submit(job(), "c")
    assert service.obstacle == "the queue is full"
    with pytest.raises(UserError, match="at most 2"):
        service.submit(job(n_samples=3), "c")
    finish(drawer, first, mine, other)
    assert service.obstacle == "" and service.submit(job(), "a").wait(20.0)


@pytest.mark.parametrize("models", [1, 2])
def test_the_time_to_wait_counts_the_turns_of_others_and_all_models(busy, drawer, models):
    drawer.at_once = models
    service, first = busy(queued=9, queued_of_key=3)
    if models == 2:  # the second one is busy too
        tickets = [first, service.submit(job("second"), "second")]
        drawer.wait_for_batches(2)
    else:
        tickets = [first]
    tickets += [service.submit(job(n_samples=3), key) for key in "abc"]
    (cost,) = {row.cost for row in service.lanes}
    service.pace = Pace()
    service.pace.measure(cost, 7.9)  # one picture in almost eight seconds
    with pytest.raises(Refused, match="of your key") as own:
        service.submit(job(), "a")
    assert own.value.headers["Retry-After"] == str(24 // models)
    with pytest.raises(Refused, match="9 pictures wait") as all_lanes:
        service.submit(job(), "d")
    assert all_lanes.value.headers["Retry-After"] == str(8 // models)
    finish(drawer, *tickets)


def test_a_cancelled_job_leaves_the_queue_and_is_not_drawn(busy, drawer):
    service, first = busy()
    unwanted, wanted = service.submit(job("unwanted")), service.submit(job("wanted"))
    assert service.cancel(unwanted) and not service.cancel(unwanted)
    assert service.waiting == 1
    assert finish(drawer, first, wanted) == [["wanted"]]


def test_a_batch_is_stopped_when_nobody_waits_for_it_and_not_before(busy, drawer):
    service, first = busy(batch_size=2)
    pair = [service.submit(job(name)) for name in ("gone", "stays")]
    drawer.fails = lambda requests: len(requests) == 2 and service.cancel(pair[0])
    service.cancel(first)  # all of its batch: stopped after a step
    drawer.gate.set()
    assert pair[1].wait(20.0) and pair[1].snapshot().state == "done"
    assert first.snapshot().done == 0 and pair[0].snapshot().state == "cancelled"
    assert drawer.steps == 2  # those of the pair


def test_a_picture_that_cannot_be_drawn_costs_nobody_else_theirs(busy, drawer):
    service, first = busy(batch_size=5)

    def fails(requests):
        if any(request.prompts[0] == "poison" for request in requests):
            raise UserError("--prompt poison was given; expected another")

    drawer.fails = fails
    tickets = [service.submit(job(name), name) for name in ("a", "b", "poison", "c", "d")]
    finish(drawer, first, *(t for t in tickets if t.key != "poison"))
    assert tickets[2].wait(20.0)
    with pytest.raises(Refused, match="^prompt poison was given") as caught:
        tickets[2].check()
    assert caught.value.status == 422


def test_a_fault_of_the_servers_is_500_without_its_words_and_ends_its_health(serve, drawer, caplog):
    service = serve()

    def fails(_):
        raise RuntimeError("/srv/secret: device-side assert")

    drawer.fails = fails
    for _ in range(5):
        assert service.healthy
        ticket = service.submit(job())
        assert ticket.wait(20.0)
        with pytest.raises(Refused) as caught:
            ticket.check()
        assert caught.value.status == 500 and "secret" not in str(caught.value)
    assert not service.healthy and "device-side assert" in caplog.text


def test_what_holds_for_a_whole_batch_is_said_to_each_of_its_owners(busy, drawer):
    service, first = busy()
    drawer.says = ["--ddim_steps 150 asked, 167 taken"]
    pair = [service.submit(job(), name) for name in "ab"]
    finish(drawer, first, *pair)
    assert [each.snapshot().notices for each in pair] == [("ddim_steps 150 asked, 167 taken",)] * 2


def test_where_memory_lacks_the_batch_is_halved_and_stays_so(busy, drawer):
    service, first = busy(batch_size=4)

    def fails(requests):
        if len(requests) > 2:
            raise UserError("they do not fit") from MemoryError()

    drawer.fails = fails
    one, two = (service.submit(job(name, n_samples=4), name) for name in ("a", "b"))
    sizes = [len(batch) for batch in finish(drawer, first, one, two)]
    assert sizes == [4, 2, 2, 2, 2]


def test_a_batch_that_takes_too_long_is_stopped(drawer):
    times = iter(float(n) for n in range(10**6))
    limits, terms = Limits(seconds=20.0), Terms(max_wait=0.0)
    service = Service(lambda: drawer, limits, terms, clock=lambda: next(times))
    service.start()
    try:
        assert service.loaded.wait(20.0)
        short, long = service.submit(job(ddim_steps=3)), service.submit(job(ddim_steps=100))
        assert short.wait(20.0) and long.wait(20.0)
        assert short.snapshot().state == "done" and "took longer" in long.snapshot().error
    finally:
        assert service.close(20.0)


def test_draining_finishes_what_is_drawn_hands_back_the_rest_and_takes_nothing_new(busy, drawer):
    service, first = busy(batch_size=1)
    waiting = [service.submit(job(), key) for key in "ab"]
    service.drain()
    for ticket in waiting:
        with pytest.raises(Refused) as caught:
            ticket.check()
        assert caught.value.status == 503 and "Retry-After" in caught.value.headers
    with pytest.raises(Refused, match="shutting down"):
        service.submit(job())
    assert finish(drawer, first) == [] and service.close(20.0)
    assert first.snapshot().state == "done" and not service.alive


def test_a_model_that_cannot_be_loaded_is_told_and_nothing_is_taken():
    def load():
        raise UserError("checkpoint x lacks weights")

    told = []
    service = Service(load, tell=told.append)
    with pytest.raises(Refused, match="is being loaded"):
        service.submit(job())
    service.start()
    assert service.loaded.wait(20.0)
    service._thread.join(20.0)
    assert [str(error) for error in told] == ["checkpoint x lacks weights"]
    with pytest.raises(Refused, match="cannot be loaded") as caught:
        service.submit(job())
    assert caught.value.status == 503 and not service.alive


def test_front_ends_settings_of_other_classes_are_drawn_too(serve):
    ticket = serve().submit(Txt2ImgSettings(prompt="a", n_samples=2, n_iter=1, seed=3))
    assert ticket.wait(20.0) and [each.seed for each in ticket.pictures] == [3, 4]


def test_a_job_without_a_seed_has_one_by_chance_and_its_pictures_follow_it(serve):
    service = serve()
    seeds = []
    for _ in range(2):
        ticket = service.submit(settings_of({"n_samples": 2, "ddim_steps": 1}))
        assert ticket.wait(20.0)
        first, second = (each.seed for each in ticket.pictures)
        assert second == first + 1
        seeds.append(first)
    assert seeds[0] != seeds[1]


def test_a_drawn_request_is_let_go_of(drawer):
    service = Service(lambda: drawer)
    service.drawer = drawer
    photo = Image.new("RGB", (64, 64))
    requests = service.prepare(settings_of({"seed": 1}, PictureJob), image=photo)
    ticket = service.enqueue(requests)
    (row,) = rows = service.lanes.take(service.lanes.first().group, 8)
    service._artist.draw(rows)
    assert row.request is None and ticket.wait(20.0) and ticket.snapshot().state == "done"


def test_each_picture_of_a_job_has_its_own_draw_of_the_operators_lists(serve, drawer, tmp_path):
    (tmp_path / "pets.txt").write_text("cat\ndog\nfox\nfrog\n")
    service = serve(fixed={"wildcards": str(tmp_path)})
    wish = replace(job("a __pets__ and a __pets__", n_samples=3, n_iter=2), wildcards=str(tmp_path))
    tickets = [service.submit(wish), service.submit(replace(wish, seed=9, n_iter=1))]
    for ticket in tickets:
        assert ticket.wait(20.0)
        ticket.check()
    first, second = ([each.prompt for each in ticket.pictures] for ticket in tickets)
    assert len(set(first)) > 2
    assert second == first[2:5]  # the same seeds, the same prompts
    told = " ".join(note for note in tickets[0].snapshot().notices)
    assert "pets__" not in told


def test_no_request_names_a_folder_of_wildcards():
    with pytest.raises(UserError, match="wildcards was given; expected none"):
        job(wildcards="/etc")
