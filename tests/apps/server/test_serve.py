"""On a Ray cluster of this machine: one front, two painters, and one of them killed."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("ray.serve", reason="needs Ray: pip install -e '.[ray]'")
for name in ("fastapi", "prometheus_client"):
    pytest.importorskip(name, reason="needs the server's packages: pip install -e '.[server]'")

import ray  # noqa: E402
import yaml  # noqa: E402
from ray import serve  # noqa: E402

from apps.line_bot.simulate.serving import free_port  # noqa: E402
from apps.server.asking import settings_of  # noqa: E402
from apps.server.drawing import single  # noqa: E402
from apps.server.serve import build  # noqa: E402
from ldm.errors import UserError  # noqa: E402
from ldm.images.io import encode_picture  # noqa: E402
from ldm.pipelines.pipeline import Pipeline  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
KEY = "open sesame"


@pytest.fixture
def key(monkeypatch):
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    monkeypatch.setenv("LDM_SERVER_KEYS", f"anna:{digest}")


def test_the_yaml_that_ships_builds(key):
    (application,) = yaml.safe_load((ROOT / "apps/server/serve.yaml").read_text())["applications"]
    assert application["import_path"] == f"{build.__module__}:build"
    assert isinstance(build(application["args"]), serve.Application)
    assert {each["name"] for each in application["deployments"]} == {"Front", "Painter"}


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"painters": 0}, "painters 0"),
        ({"painters": True}, "painters True"),
        ({"batchsize": 4}, "args.batchsize is unknown"),
        ({"batch_size": "4"}, "--batch_size 4"),
        ({"keys": "nowhere"}, "cannot be read"),
        ({"port": 8000}, "args.port .* http_options"),
        ({"host": "127.0.0.1"}, "args.host .* http_options"),
    ],
)
def test_arguments_that_are_wrong_are_refused(key, args, told):
    with pytest.raises(UserError, match=told):
        build(args)


@pytest.mark.parametrize("grace", [30.0, 120.0])
def test_a_replica_may_finish_what_is_under_way_within_the_grace(key, grace):
    front = build({"grace": grace})._bound_deployment
    painter = front.init_args[-1]._bound_deployment
    assert (front.name, painter.name) == ("Front", "Painter")
    for each in (front, painter):
        assert each._deployment_config.graceful_shutdown_timeout_s > grace


def test_without_keys_nothing_is_served(monkeypatch):
    monkeypatch.delenv("LDM_SERVER_KEYS", raising=False)
    with pytest.raises(UserError, match="expected keys"):
        build({})


@pytest.fixture
def cluster(key):
    """A Ray cluster of this machine with Serve on a free port, which is yielded."""
    # Its processes find the project where this one does, and inherit no thread count but one.
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}},
    )
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        yield port
    finally:
        serve.shutdown()
        ray.shutdown()


def ask(port: int, path: str, body: dict | None = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
    with urllib.request.urlopen(request, timeout=200) as answer:
        return answer.read()


@pytest.mark.skipif(
    "LDM_TEST_RAY_SERVE" not in os.environ,
    reason="takes half a minute; set LDM_TEST_RAY_SERVE to run it",
)
def test_two_replicas_draw_one_queue_and_a_killed_one_costs_no_picture(cluster, tiny_ckpt):
    args = {"painters": 2, "batch_size": 2, "ckpt": str(tiny_ckpt), "device": "cpu"}
    serve.run(build(args), name="draw")
    job = {"ddim_steps": 30, "seed": 5, "n_samples": 8}
    place = f"/v1/jobs/{json.loads(ask(cluster, '/v1/jobs', job))['id']}"
    while json.loads(ask(cluster, place))["fraction"] == 0.0:
        pass
    actors = ray.util.list_named_actors(all_namespaces=True)
    painters = [each for each in actors if "Painter" in each["name"]]
    assert len(painters) == 2
    ray.kill(ray.get_actor(**painters[0]))
    events = ask(cluster, f"{place}/events").decode().strip().split("\n\n")
    last = json.loads(events[-1].split("data: ")[1])
    assert (last["state"], last["done"]) == ("done", 8), last
    pipeline = Pipeline.load(tiny_ckpt, device="cpu")
    for number, settings in enumerate(single(settings_of(job))):
        (picture,) = pipeline.generate(settings)
        expected = encode_picture(picture.pixels, "png", picture.parameters)
        assert ask(cluster, f"{place}/pictures/{number}") == expected
