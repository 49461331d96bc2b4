"""What a command line of sample_diffusion.py asks for, of a new run or of one that goes on."""

from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.programs.sample_folder import SampleFolder
from ldm.programs.sampling import read_settings
from ldm.settings.samples import SampleProgramSettings

BEGUN = SampleProgramSettings(
    resume="/a/model", class_label=(1, 2), overrides=("model.params.x=1",), n_samples=5, eta=0.5
)


@pytest.fixture
def folder(tmp_path):
    folder = SampleFolder.new(tmp_path, 7)
    folder.write_config(BEGUN.record())
    return folder.folder


def test_a_new_run_has_no_folder_yet():
    settings, folder = read_settings({"resume": "a", "n_samples": 3})
    assert (settings.resume, settings.n_samples, folder) == ("a", 3, None)


def test_a_run_that_goes_on_is_asked_for_what_it_began_with(folder):
    settings, found = read_settings({"earlier": str(folder)})
    assert (settings, found.folder) == (BEGUN, folder)


def test_only_what_pictures_do_not_depend_on_may_change(folder):
    changes = {"n_samples": 9, "batch_size": 1, "device": "cpu"}
    settings, _ = read_settings({"earlier": str(folder), **changes})
    assert (settings.n_samples, settings.batch_size, settings.eta) == (9, 1, 0.5)
    for name, value, told in (("eta", 0.1, "--eta was"), ("overrides", ("a.b=1",), "a.b=1 was")):
        with pytest.raises(UserError, match=f"{told} given with --continue"):
            read_settings({"earlier": str(folder), name: value})


def test_settings_of_another_version_are_refused(folder):
    SampleFolder(folder).write_config({"resume": "a"})
    with pytest.raises(UserError, match="not written by this version"):
        read_settings({"earlier": str(folder)})
