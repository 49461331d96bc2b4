"""A fork's own files are found beside ours, whichever folder comes first on the path."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OWN = (
    "ldm.mine",
    "ldm.mine_too.deep.deeper",
    "ldm.modules.embedding_manager",
    "ldm.modules.encoders.adapter",
    "ldm.modules.diffusionmodules.controlled",
    "ldm.models.diffusion.ddpm_edit",
    "ldm.data.personalized",
    "ldm.settings.mine",
)
# As the reference has them, and as a fork may have them below the top.
EMPTY_INITS = {
    "none": (),
    "the reference's": ("modules/encoders", "modules/diffusionmodules", "data", "models/diffusion"),
    "a fork's": ("modules", "modules/encoders", "models", "data"),
}


def lay_fork(folder: Path, inits: tuple[str, ...]) -> None:
    for name in OWN:
        path = folder / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"NAME = {name!r}\n")
    for init in inits:
        (folder / "ldm" / init / "__init__.py").write_text("")


def imported(path: list[Path], program: str) -> subprocess.CompletedProcess:
    # An editable installation's finder would find ours without the path.
    head = (
        "import sys\n"
        "sys.meta_path = [finder for finder in sys.meta_path if 'Editable' not in str(finder)]\n"
        f"here = {str(ROOT)!r}\n"
        "sys.path = [p for p in sys.path if p not in ('', here)]\n"
        f"sys.path[:0] = {[str(p) for p in path]!r}\n"
    )
    return subprocess.run(
        [sys.executable, "-c", head + program], capture_output=True, text=True, cwd="/", check=False
    )


@pytest.mark.parametrize("first", ["ours", "the fork"])
@pytest.mark.parametrize("inits", EMPTY_INITS)
def test_a_forks_files_and_ours_are_imported_together(tmp_path, first, inits):
    lay_fork(tmp_path, EMPTY_INITS[inits])
    program = (
        "import importlib\n"
        f"for name in {OWN!r}: assert importlib.import_module(name).NAME == name\n"
        "import ldm.errors, ldm.settings.option, ldm.lazy, ldm.data.strings, ldm.models\n"
        "import ldm.modules.keyword_groups, ldm.modules.encoders, ldm.models.diffusion\n"
        "assert ldm.errors.__file__.startswith(here)\n"
    )
    path = [ROOT, tmp_path] if first == "ours" else [tmp_path, ROOT]
    done = imported(path, program)
    assert done.returncode == 0, done.stderr


def test_of_a_file_that_both_have_ours_is_taken(tmp_path):
    (tmp_path / "ldm").mkdir()
    (tmp_path / "ldm" / "errors.py").write_text("raise SystemExit('the fork')\n")
    done = imported([tmp_path, ROOT], "import ldm.errors; ldm.errors.UserError")
    assert done.returncode == 0, done.stderr


def test_an_empty_init_at_a_forks_top_hides_ours_until_it_has_the_line_that_ours_has(tmp_path):
    lay_fork(tmp_path, ("",))
    program = "import ldm.mine, ldm.errors"
    assert "No module named 'ldm.errors'" in imported([tmp_path, ROOT], program).stderr
    assert imported([ROOT, tmp_path], program).returncode == 0
    line = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"
    (tmp_path / "ldm" / "__init__.py").write_text(line)
    done = imported([tmp_path, ROOT], program)
    assert done.returncode == 0, done.stderr


def test_every_package_takes_in_the_folders_of_its_name():
    packages = sorted((ROOT / "ldm").rglob("__init__.py"))
    assert len(packages) > 20
    folders = {path.parent for path in (ROOT / "ldm").rglob("*.py")}
    assert folders == {path.parent for path in packages}
    for path in packages:
        assert "__path__ = extend_path(__path__, __name__)" in path.read_text(encoding="utf-8")
