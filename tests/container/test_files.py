"""The Dockerfile, .dockerignore and compose.yaml keep to what is promised of the image."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from docker_files import ignored, instructions

from apps.line_bot.settings import SECRET_NAMES, BotSettings
from container import run
from optimizedSD.web.page import ServerSettings

ROOT = Path(__file__).resolve().parents[2]


TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STEPS = instructions(TEXT)
LAST = max(i for i, (name, _) in enumerate(STEPS) if name == "FROM")
FINAL = STEPS[LAST:]  # of the image itself
PATTERNS = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SCRIPTS = [*(ROOT / "container").glob("*.sh"), *(ROOT / "tests" / "container").glob("*.sh")]


def given(name: str, steps=FINAL) -> list[str]:
    return [rest for step, rest in steps if step == name]


def copied() -> list[str]:
    """Return what the Dockerfile takes from the build's context."""
    sources = [
        word
        for rest in given("COPY", STEPS)
        if not rest.startswith("--from")
        for word in rest.split()[:-1]
    ]
    return [str(path.relative_to(ROOT)) for word in sources for path in ROOT.glob(word)]


# The Dockerfile.


def test_the_base_is_debians_own_image_of_a_named_release():
    (base,) = given("ARG", STEPS[:1])
    assert re.fullmatch(r"BASE=docker\.io/library/debian:[a-z]+-slim", base)
    stages = [rest.split() for rest in given("FROM", STEPS)]
    assert [words[0] for words in stages] == ["${BASE}", "python", "python"]


def test_the_image_is_made_in_stages_and_has_no_installer():
    assert len(given("FROM", STEPS)) == 3
    assert not re.search(r"\bpip\b|apt-get", " ".join(given("RUN")))
    assert "python3 -m venv --without-pip" in TEXT
    (copy,) = [rest for rest in given("COPY") if rest.startswith("--from=")]
    assert copy == "--from=packages /opt/venv /opt/venv"


def test_the_program_is_no_root_and_has_its_own_folders():
    assert given("USER") == ["1000:1000"]
    assert FINAL.index(("USER", "1000:1000")) > max(
        i for i, (name, _) in enumerate(FINAL) if name in ("RUN", "COPY")
    )
    assert json.loads(given("VOLUME")[0]) == ["/data", "/models"]
    assert given("WORKDIR")[-1] == "/data"
    assert "install -d -o painter -g painter -m 1777 /data /models" in given("RUN")[0]


def test_signals_reach_the_program():
    (entry,) = given("ENTRYPOINT")
    assert json.loads(entry) == ["tini", "--", "python", "/app/container/run.py"]
    assert given("STOPSIGNAL") == ["SIGTERM"]
    assert not given("CMD")


def test_health_is_asked_by_the_images_own_program():
    (health,) = given("HEALTHCHECK")
    flags, command = health.split("CMD")
    assert json.loads(command) == ["python", "/app/container/health.py"]
    assert {flag.split("=")[0] for flag in flags.split()} == {
        *("--interval", "--timeout", "--start-period", "--retries")
    }


def test_packages_are_locked_checked_and_kept_in_a_cache():
    calls = [rest for rest in given("RUN", STEPS) if re.search(r"\bpip --python", rest)]
    assert len(calls) == 2
    assert all("--mount=type=cache,target=/root/.cache/pip" in rest for rest in calls)
    assert "--no-deps --only-binary :all: --require-hashes" in calls[0]
    installs = sum(rest.count(" install ") for rest in calls)
    assert installs == sum(rest.count("-r ") for rest in calls) == 3


def test_each_choice_has_its_lock():
    arguments = dict(rest.split("=") for rest in given("ARG", STEPS))
    assert arguments["TORCH"] == "cpu"
    assert arguments["PACKAGES"] == "draw"
    for name in ("torch-cpu", "torch-cu126", "requirements-draw", "requirements-all"):
        assert (ROOT / "container" / f"{name}.txt").is_file()


def test_debians_packages_leave_nothing_behind():
    installs = [rest for rest in given("RUN", STEPS) if "apt-get install" in rest]
    assert len(installs) == 2
    for rest in installs:
        assert "apt-get install -y --no-install-recommends" in rest
        assert rest.endswith("rm -rf /var/lib/apt/lists/*")


def test_nothing_is_fetched_past_the_package_managers():
    assert not given("ADD", STEPS)
    assert not re.search(r"\b(curl|wget|git clone)\b", TEXT)


def test_no_secret_has_a_place_in_the_image():
    named = " ".join(given("ARG", STEPS) + given("ENV", STEPS)).upper()
    assert not re.search("SECRET|TOKEN|PASSWORD|_KEY", named)


def test_the_ports_are_those_of_the_programs():
    ports = {str(BotSettings.port), str(ServerSettings.port)}
    assert set(given("EXPOSE")[0].split()) == ports
    assert run.SIMULATION[run.SIMULATION.index("--port") + 1] in ports


# The .dockerignore.


@pytest.mark.parametrize("source", copied())
def test_what_the_image_needs_enters_the_build(source):
    path = ROOT / source
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    left = {str(each.relative_to(ROOT)) for each in files}
    left = {each for each in left if ignored(each, PATTERNS)}
    weights = re.compile(r"\.(ckpt|safetensors|part)$|/stable-diffusion-v1/|/safety-checker/")
    assert not [
        each for each in left if not re.search(r"__pycache__|\.ipynb|\.py[co]$", each)
        and not weights.search(each)
    ]  # fmt: skip


def test_every_program_and_the_bundled_model_enter_the_build():
    files = [str(path.relative_to(ROOT)) for path in run.programs().values()]
    files += ["models/ldm/demo/model.safetensors", "models/ldm/demo/config.yaml", "LICENSE"]
    files += ["models/controlnet/demo-boxes.safetensors", "models/embeddings/demo-tangerine.pt"]
    files += ["models/controlnet/demo-picture.safetensors", "models/lora/demo-outline.safetensors"]
    files += ["ldm/translation/dictionary.tsv.gz", "apps/line_bot/__main__.py", "NOTICE"]
    files += ["container/run.py", "container/health.py", "container/requirements-draw.txt"]
    assert [each for each in files if ignored(each, PATTERNS)] == []
    folders = {each.split("/")[0] for each in files}
    assert folders <= {source.split("/")[0] for source in copied()}


def test_the_image_takes_all_that_enters_the_build():
    entering = {line[1:] for line in PATTERNS if re.fullmatch(r"![\w.]+", line)}
    assert entering == {source.split("/")[0] for source in copied()}


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".env",
        "line_bot.toml",
        "apps/line_bot/.env.local",
        "apps/line_bot/secrets.toml",
        "container/server.key",
        "models/ldm/stable-diffusion-v1/model.ckpt",
        "models/ldm/stable-diffusion-v1/model.safetensors",
        "models/ldm/own/model.safetensors",
        "models/safety-checker/pytorch_model.bin",
        "models/ldm/demo/.model.safetensors.ldm-1-0.part",
        "outputs/line_bot/bot.sqlite3",
        "logs/run/checkpoints/last.ckpt",
        "apps/line_bot/__pycache__/bot.cpython-311.pyc",
        "scripts/latent_imagenet_diffusion.ipynb",
        "tests/test_main.py",
        "docs/container.md",
        "benchmarks/memory.py",
        "assets/page-txt2img.png",
        ".venv/bin/python",
    ],
)
def test_what_no_image_should_hold_stays_out(path):
    assert ignored(path, PATTERNS)


# compose.yaml.


def test_compose_starts_the_bot_and_on_request_the_tunnel():
    assert COMPOSE.keys() == {"name", "services", "secrets", "volumes"}
    assert COMPOSE["services"].keys() == {"bot", "tunnel"}
    bot, tunnel = COMPOSE["services"]["bot"], COMPOSE["services"]["tunnel"]
    assert "profiles" not in bot
    assert tunnel["profiles"] == ["tunnel"]
    assert tunnel["depends_on"] == {"bot": {"condition": "service_healthy"}}
    assert re.fullmatch(r"docker\.io/[\w/]+:[\w.-]+", tunnel["image"])
    assert f"bot:{BotSettings.port}" in tunnel["command"]
    assert run.arguments(bot["command"])[: len(run.BOT)] == list(run.BOT)


def test_compose_gives_the_bot_its_secrets_as_a_file():
    bot = COMPOSE["services"]["bot"]
    (name,) = bot["secrets"]
    assert bot["command"][-2:] == ["--config-file", f"/run/secrets/{name}"]
    file = COMPOSE["secrets"][name]["file"].removeprefix("./")
    assert f"/{file}" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert ignored(file, PATTERNS)
    assert not {each.upper() for each in SECRET_NAMES} & set(bot["environment"])


def test_the_bot_of_compose_can_write_to_its_volumes_alone():
    bot = COMPOSE["services"]["bot"]
    assert bot["read_only"] is True
    assert bot["tmpfs"] == ["/tmp"]
    assert bot["cap_drop"] == ["ALL"]
    assert bot["security_opt"] == ["no-new-privileges:true"]
    mounts = dict(each.split(":") for each in bot["volumes"])
    assert mounts.keys() == COMPOSE["volumes"].keys()
    assert list(mounts.values()) == json.loads(given("VOLUME")[0])
    # Reached through a proxy or the tunnel, so not from other machines.
    assert bot["ports"] == [f"127.0.0.1:{BotSettings.port}:{BotSettings.port}"]


# All of them.


def test_only_public_addresses_are_named():
    files = [ROOT / "Dockerfile", ROOT / "compose.yaml", ROOT / ".dockerignore", *SCRIPTS]
    files += sorted((ROOT / "container").glob("*"))
    found = {
        host
        for path in files
        if path.is_file()
        for host in re.findall(r"https?://([\w.-]+)", path.read_text(encoding="utf-8"))
    }
    assert found == {"pypi.org", "download.pytorch.org", "deb.debian.org", "bot.example"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_are_sound_shell(script):
    assert script.stat().st_mode & 0o111, f"{script.name} is not executable"
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
