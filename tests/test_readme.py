"""What README.md and docs/ tell people to type works; what they show is current and complete."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from small_demo import write_small_demo

from ldm.pipelines import models

ROOT = Path(__file__).resolve().parents[1]
TRANSLATIONS = [ROOT / "README.ja.md", ROOT / "README.zh-TW.md"]
PAGES = [ROOT / "README.md", *TRANSLATIONS, ROOT / "CONTRIBUTING.md"]
PAGES += sorted((ROOT / "docs").glob("*.md")) + [ROOT / "benchmarks" / "README.md"]
README = PAGES[0].read_text(encoding="utf-8")
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def load_refresher():
    spec = importlib.util.spec_from_file_location("refresh", ROOT / "docs/refresh.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFRESHER = load_refresher()


def shell_blocks(text: str) -> list[str]:
    """Return the lines of ```bash and plain ``` blocks, continued lines joined."""
    language, lines = None, []
    for line in text.replace("\\\n", " ").splitlines():
        fence = re.fullmatch(r" *```(\w*)", line)
        if fence:
            language = (fence[1] or "bash") if language is None else None
        elif language == "bash" and not line.lstrip().startswith("#"):
            lines.append(line.strip())
    return lines


def program_calls() -> list[tuple[str, str, list[str]]]:
    """Return (page, program, flags) of every `python PROGRAM.py ...` on any page."""
    calls = []
    for page in PAGES:
        for line in shell_blocks(page.read_text(encoding="utf-8")):
            # Up to a pipe or &&; a bar between letters is in quotes, as in --blend "cat|dog".
            for command in re.findall(r"\bpython (?:[^&|]|(?<=\w)\|(?=\w))+", line):
                words = shlex.split(command, comments=True)
                if words[1] == "-m" and (ROOT / words[2].split(".")[0]).is_dir():  # not pytest
                    words[1:3] = [f"{words[2].replace('.', '/')}/__main__.py"]
                if words[1].endswith(".py"):
                    flags = [word.split("=")[0] for word in words[2:] if re.match("--?[a-z]", word)]
                    calls.append((page.name, words[1], flags))
    return calls


CALLS = program_calls()


def setup_commands(text: str) -> dict[str, str]:
    """Return the set-up commands by name, as `.ci/run` copies them out."""
    blocks = re.findall(r"<!-- setup:(\w+) -->\n(.*?)<!-- /setup -->", text, re.DOTALL)
    return {
        name: "\n".join(
            line for line in body.splitlines() if line and not line.startswith(("```", "<!--"))
        )
        for name, body in blocks
    }


def test_two_commands_do_all_the_set_up():
    commands = setup_commands(README)
    assert list(commands) == ["picture", "tests"]
    assert all("\n" not in command for command in commands.values()), "one line each"
    assert commands["picture"].startswith("pip install -e . && python scripts/txt2img.py --prompt")
    assert commands["tests"] == 'pip install -e ".[test]" && python -m pytest'


def test_the_fresh_machine_check_runs_exactly_the_readmes_commands():
    """`.ci/run` reads them with sed; run its own function and compare."""
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    function = re.search(r"^readme_command\(\) \{\n.*?^\}\n", script, re.DOTALL | re.MULTILINE)[0]
    for name, command in setup_commands(README).items():
        done = subprocess.run(
            ["bash", "-euc", f"{function}\nreadme_command {name}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
        )
        assert done.stdout.rstrip("\n") == command
        assert f'bash -euo pipefail -c "${name}_command"' in script


def test_pages_name_programs_and_files_that_exist():
    assert len(CALLS) > 5
    for page, program, _ in CALLS:
        assert (ROOT / program).is_file(), f"{page}: there is no {program}"


@pytest.mark.parametrize("program", sorted({program for _, program, flags in CALLS if flags}))
def test_every_flag_on_a_page_is_a_flag_of_its_program(program):
    known = set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", REFRESHER.help_text(program)))
    for page, called, flags in CALLS:
        unknown = set(flags) - known if called == program else None
        assert not unknown, f"{page}: {program} has no {sorted(unknown)}"


def squeezed(text: str) -> str:
    """Drop what argparse lays out differently from one Python to the next."""
    # "-n NAME, --name NAME" up to 3.12 is "-n, --name NAME" from 3.13 on.
    text = re.sub(r"(-\w) [^\s,][^,\n]*, (--)", r"\1, \2", text)
    text = re.sub(r"(--\w+) [A-Z]+, (--)", r"\1, \2", text)
    return " ".join(text.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_generated_parts_are_current(page):
    text = page.read_text(encoding="utf-8")
    assert squeezed(REFRESHER.refreshed(text)) == squeezed(text), "run `make docs`"


def test_every_script_shows_its_flags_on_a_page():
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    shown = {match["program"] for match in REFRESHER.HELP.finditer(pages)}
    programs = {f"scripts/{path.name}" for path in (ROOT / "scripts").glob("*.py")}
    # The notebook's helpers are imported, not run.
    assert programs - {"scripts/notebook_helpers.py"} | {"main.py"} <= shown


def test_the_readme_leaves_the_flags_to_the_programs_page():
    assert not REFRESHER.HELP.search(README)
    assert "docs/programs.md#txt2imgpy" in README


def links(text: str) -> list[str]:
    found = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) + re.findall(r'src="([^"]+)"', text)
    return [link for link in found if "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_lead_somewhere(page):
    missing = [
        link
        for link in links(page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]
    assert not missing, f"{page.name}: {missing}"


def anchors(page: Path) -> set[str]:
    """Return the names that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_headings_find_them(page):
    found = re.findall(r"\]\(([\w./-]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
    targets = [(page.parent / path if path else page, anchor) for path, anchor in found]
    assert not [anchor for target, anchor in targets if anchor not in anchors(target)]


def shape(text: str) -> dict[str, object]:
    """Return what a translation of a page keeps: its outline, commands, code and links."""
    return {
        "headings": re.findall(r"^#+(?= )", text, re.MULTILINE),
        "set-up": setup_commands(text),
        "commands": [shlex.split(line, comments=True) for line in shell_blocks(text)],
        "code": [ast.dump(ast.parse(block)) for block in PYTHON.findall(text)],
        "pictures": re.findall(r'src="([^"]+)"', text),
        "rows": len(re.findall(r"^\|", text, re.MULTILINE)),
        "addresses": sorted(a for a in re.findall(r"\]\(([^)]+)\)", text) if "README" not in a),
        "names": sorted(set(re.findall(r"`([^`\n]+)`", text))),
    }


@pytest.mark.parametrize("page", TRANSLATIONS, ids=lambda page: page.name)
@pytest.mark.parametrize("part", shape(README))
def test_a_translated_readme_says_the_same_as_the_english_one(page, part):
    """Prose is translated; commands, code, links and what stands in backticks are the same."""
    found = shape(page.read_text(encoding="utf-8"))[part]
    assert found == shape(README)[part]


@pytest.mark.parametrize("page", TRANSLATIONS, ids=lambda page: page.name)
def test_a_translated_readme_is_in_its_language(page):
    """No paragraph was left in English: a third of each one's letters are not Latin."""
    kept = re.compile(r"```.*?```|`[^`]*`|\]\([^)]*\)|<[^>]*>", re.DOTALL)
    text = kept.sub("", page.read_text(encoding="utf-8"))
    for paragraph in re.split(r"\n{2,}|\n(?=\|)", text):
        letters = [c for c in paragraph if c.isalpha()]
        if len(letters) > 60:
            assert sum(not c.isascii() for c in letters) > len(letters) / 3, paragraph


def test_the_readmes_lead_to_each_other():
    for page in (PAGES[0], *TRANSLATIONS):
        head = page.read_text(encoding="utf-8")[:600]
        assert all(each.name in head for each in (PAGES[0], *TRANSLATIONS) if each != page)


CODE = ("ldm", "cldm", "scripts", "optimizedSD", "apps", "benchmarks", "notebooks")


def tabled_files(text: str) -> list[str]:
    """Return the files that the tables under the headings of folders name."""
    files, folder = [], None
    for line in text.splitlines():
        if line.startswith("#"):
            folder = line.removeprefix("### ") if line.startswith("### ") else None
        elif folder and (row := re.match(r"\| `([^`]+\.py)` \|", line)):
            files.append(f"{folder}/{row[1]}")
    return files


def test_the_plan_of_the_house_names_every_file_once():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = [ROOT / name for name in CODE]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    there = [path.relative_to(ROOT).as_posix() for path in files if path.stem != "__init__"]
    assert sorted(tabled_files(page)) == sorted(there), "run `make docs`"


@pytest.fixture(scope="module")
def small_model(tmp_path_factory) -> tuple[Path, Path]:
    return write_small_demo(tmp_path_factory.mktemp("demo"))


PYTHON_EXAMPLES = PYTHON.findall(README)


def test_there_are_python_examples():
    assert len(PYTHON_EXAMPLES) == 2


@pytest.mark.parametrize("example", PYTHON_EXAMPLES, ids=["pipeline", "pieces"])
def test_the_python_examples_run(example, small_model, tmp_path, monkeypatch):
    """As they stand, but for the model's path and the number of steps."""
    config, checkpoint = map(str, small_model)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "V1_CHECKPOINTS", ())
    monkeypatch.setattr(models, "DEMO_CONFIG", config)
    monkeypatch.setattr(models, "DEMO_CHECKPOINT", checkpoint)
    example = example.replace("n_iter=1", "n_iter=1, n_samples=2, ddim_steps=2")
    example = example.replace("        50,\n", "        2,\n")
    example = example.replace("models/ldm/demo/config.yaml", config)
    example = example.replace("models/ldm/demo/model.safetensors", checkpoint)
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    if "pictures" in names:
        assert names["pictures"].shape == (1, 3, 64, 64)
    else:
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png"]
