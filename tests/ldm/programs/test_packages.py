"""A missing package ends a program in one line, which names the extra that installs it."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
from importlib.metadata import packages_distributions

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest depends on tomli where the standard library has no reader
    import tomli as tomllib

import pytest
from packaging.requirements import Requirement
from running import ROOT, load_program

from ldm.errors import UserError
from ldm.programs.console import Console, exit_codes
from ldm.programs.packages import BASE, EXTRA_OF, explained

ADVICE = {extra: f'pip install -e ".[{extra}]"' for extra in EXTRA_OF.values()}
ADVICE[BASE] = 'pip install -e "."'
HIDE = """
import runpy, sys
hidden, sys.argv = sys.argv[1], sys.argv[2:]
class Hide:
    def find_spec(self, name, *_):
        if name.split(".")[0] == hidden:
            raise ModuleNotFoundError(f"No module named {hidden!r}", name=hidden)
sys.meta_path.insert(0, Hide())
runpy.run_path(sys.argv[0], run_name="__main__")
"""
TRAIN = ("main.py", "--base", ROOT / "configs/demo/autoencoder_kl_f4.yaml", "--train")
PAGE = ("optimizedSD/txt2img_gradio.py",)
DRAW = ("scripts/txt2img.py", "--ddim_steps", "1")


def required() -> dict[str, set[str]]:
    """Return the distributions that pyproject.toml lists for this Python, by extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = {BASE: project["dependencies"], **project["optional-dependencies"]}
    del lists["test"], lists["gcs"]  # no test needs the latter
    return {
        extra: {
            needed.name.lower().replace("_", "-")
            for needed in map(Requirement, lines)
            if needed.marker is None or needed.marker.evaluate()
        }
        for extra, lines in lists.items()
    }


def end_of(act) -> tuple[int, str]:
    """Run something as a program does; return the exit code and what was said."""
    err = io.StringIO()
    with exit_codes(Console("draw", None, err)) as ending:
        act()
    return ending.code, err.getvalue()


def hidden(package: str, path: str, *arguments, cwd) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", HIDE, package, str(ROOT / path), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_the_table_agrees_with_the_projects_list_of_dependencies():
    provided = packages_distributions()
    known: dict[str, str] = {}
    for package, extra in EXTRA_OF.items():
        for name in provided.get(package, ()):
            known[name.lower().replace("_", "-")] = extra
    lists = required()
    for extra, names in lists.items():
        assert names <= known.keys(), f"no import name for {names - known.keys()} of {extra!r}"
    for name in set().union(*lists.values()):  # some are of several extras: one is named
        assert name in lists[known[name]], f"{name} is not of {known[name]!r}"


@pytest.mark.parametrize("package", EXTRA_OF)
def test_every_missing_package_is_one_line_with_its_extra_and_exit_code_2(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    code, said = end_of(lambda: importlib.import_module(package))
    assert code == 2 and said.count("\n") == 1
    assert package in said and ADVICE[EXTRA_OF[package]] in said


def test_what_a_package_itself_imports_is_named_with_it(tmp_path, monkeypatch):
    (tmp_path / "gradio.py").write_text("import lost_and_gone")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gradio", raising=False)
    code, said = end_of(lambda: importlib.import_module("gradio"))
    assert code == 2 and "lost_and_gone, which gradio imports," in said and ADVICE["web"] in said


def test_a_package_of_another_version_is_not_called_missing():
    def act():
        from tqdm import something_of_a_later_version  # noqa: F401

    code, said = end_of(act)
    assert code == 2 and "tqdm cannot be imported (cannot import name" in said
    code, said = end_of(lambda: importlib.import_module("tqdm.of_a_later_version"))
    assert code == 2 and "tqdm cannot be imported (No module named 'tqdm.of" in said


def test_a_module_that_is_no_dependency_is_a_fault_of_the_program():
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        end_of(lambda: importlib.import_module("nowhere.at_all"))
    with pytest.raises(ZeroDivisionError):
        end_of(lambda: 1 / 0)


def test_an_error_that_a_missing_package_caused_says_what_to_install_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset", None)
    said = []
    for text in ("data.params.train.target: cannot be imported", "run pip install -e ."):
        with pytest.raises(UserError) as caught:
            try:
                importlib.import_module("webdataset")
            except ImportError as error:
                raise UserError(text) from error
        said.append(explained(caught.value))
    assert ADVICE["train"] in said[0] and said[1] == "run pip install -e ."


@pytest.mark.parametrize(
    ("package", "command"),
    [
        ("pytorch_lightning", TRAIN),
        ("gradio", PAGE),
        ("tqdm", DRAW),
        ("torch", DRAW),
    ],
)
def test_programs_name_what_is_missing(package, command, tmp_path):
    done = hidden(package, *command, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert f"error: the package {package} is not installed" in last
    assert ADVICE[EXTRA_OF[package]] in last
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("metric", ["psnr", "ssim"])
def test_metrics_name_the_extra_that_measures(metric, tmp_path, monkeypatch, capsys):
    from PIL import Image

    for folder in ("real", "fake"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (16, 16)).save(tmp_path / folder / "a.png")
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    folders = ["--real", str(tmp_path / "real"), "--fake", str(tmp_path / "fake")]
    assert load_program("scripts/evaluate.py").main([*folders, "--metrics", metric]) == 2
    shown = capsys.readouterr()
    assert ADVICE["train"] in shown.err and shown.err.count("\n") == 1
