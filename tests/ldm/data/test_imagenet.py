"""ImageNet from the folders people have, numbered as everyone numbers it."""

from __future__ import annotations

import numpy as np
import pytest
from omegaconf import OmegaConf
from small_pictures import noise, save

from ldm.data.imagenet import (
    ImageNetSRTrain,
    ImageNetSRValidation,
    ImageNetTrain,
    ImageNetValidation,
)
from ldm.data.synsets import read_synsets
from ldm.errors import UserError

TENCH, GOLDFISH, TIGER = "n01440764", "n01443537", "n02129604"
LAYOUTS = ["ILSVRC2012_train/data", "ILSVRC2012_train", "ILSVRC/Data/CLS-LOC/train", "train", "."]


def unpack(root, layout="train", synsets=(GOLDFISH, TENCH)):
    for k, synset in enumerate(synsets):
        save(root / layout / synset / f"{synset}_{k}.JPEG", noise(40, 60, k))
    return str(root)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pictures_are_found_in_each_of_the_usual_folders(tmp_path, layout):
    data = ImageNetTrain(data_root=unpack(tmp_path, layout), config={"size": 16})
    assert len(data) == 2
    item = data[0]
    assert (item["class_label"], item["human_label"]) == (0, "tench, Tinca tinca")
    assert (item["synsets"], item["relpath"]) == (TENCH, f"{TENCH}/{TENCH}_1.JPEG")
    assert item["image"].shape == (16, 16, 3)


def test_settings_come_as_yaml_gives_them(tmp_path):
    config = OmegaConf.create({"size": 16, "ImageNetTrain": {"random_crop": False}})
    data = ImageNetTrain(data_root=unpack(tmp_path), config=config)
    assert (data[0]["image"] == data[0]["image"]).all()
    with pytest.raises(UserError, match="has sise; it takes size"):
        ImageNetTrain(data_root=str(tmp_path), config={"sise": 16})


def test_the_list_has_the_thousand_classes_in_the_usual_order():
    synsets = read_synsets()
    assert len(synsets) == 1000
    assert list(synsets) == sorted(synsets)
    names = list(synsets.values())
    assert "tabby" in names[281] and "toilet tissue" in names[999] and "volcano" in names[980]


def test_a_part_of_the_classes_is_numbered_anew_or_keeps_its_numbers(tmp_path):
    root = unpack(tmp_path, synsets=(TENCH, GOLDFISH, TIGER))
    config = {"size": 16, "sub_indices": "1, 290-295"}
    labels = [item["class_label"] for item in ImageNetTrain(data_root=root, config=config)]
    assert labels == [0, 1]
    config["keep_orig_class_label"] = True
    labels = [item["class_label"] for item in ImageNetTrain(data_root=root, config=config)]
    assert labels == [1, 292]
    with pytest.raises(UserError, match="sub_indices '5-x': '5-x' cannot be read"):
        ImageNetTrain(data_root=root, config={"sub_indices": "5-x"})


def test_any_folders_serve_as_classes_and_another_list_can_name_them(tmp_path):
    root = unpack(tmp_path, synsets=("ant", "bee"))
    data = ImageNetTrain(data_root=root, config={"size": 16})
    assert [item["human_label"] for item in data] == ["ant", "bee"]
    with pytest.raises(UserError, match="is no class of the list"):
        ImageNetTrain(data_root=root, config={"keep_orig_class_label": True})
    (tmp_path / "insects.txt").write_text("cricket Gryllus\nbee Apis\nant Formica\n")
    config = {"keep_orig_class_label": True, "synset_file": str(tmp_path / "insects.txt")}
    data = ImageNetTrain(data_root=root, config=config)
    assert [(item["class_label"], item["human_label"]) for item in data] == [
        (2, "Formica"),
        (1, "Apis"),
    ]


def test_a_flat_validation_folder_is_read_with_its_list(tmp_path):
    for k in (1, 2):
        save(tmp_path / "val" / f"ILSVRC2012_val_0000000{k}.JPEG", seed=k)
    with pytest.raises(UserError, match="their classes in validation_synset.txt"):
        ImageNetValidation(data_root=str(tmp_path))
    lines = f"ILSVRC2012_val_00000001.JPEG {GOLDFISH}\nILSVRC2012_val_00000002.JPEG {TENCH}\n"
    (tmp_path / "validation_synset.txt").write_text(lines)
    data = ImageNetValidation(data_root=str(tmp_path), config={"size": 8})
    assert [item["class_label"] for item in data] == [1, 0]


def test_a_folder_of_splits_is_not_taken_for_one_of_classes(tmp_path):
    unpack(tmp_path, "val")
    with pytest.raises(UserError, match="has no ImageNet; expected pictures in folders of classes"):
        ImageNetTrain(data_root=str(tmp_path))


def test_validation_pictures_are_cut_in_the_middle_and_training_pictures_anywhere(tmp_path):
    root = unpack(tmp_path, "train")
    unpack(tmp_path, "val")
    middle = ImageNetValidation(data_root=root, config={"size": 16})
    anywhere = ImageNetTrain(data_root=root, config={"size": 16})
    assert all((middle[0]["image"] == middle[0]["image"]).all() for _ in range(3))
    assert len({anywhere[0]["image"].tobytes() for _ in range(20)}) > 1


def test_paths_alone_are_given_when_pictures_are_not_to_be_processed(tmp_path):
    data = ImageNetTrain(process_images=False, data_root=unpack(tmp_path))
    assert data[0] == str(tmp_path / "train" / TENCH / f"{TENCH}_1.JPEG")


@pytest.mark.parametrize(
    ("kind", "layout"), [(ImageNetSRTrain, "train"), (ImageNetSRValidation, "val")]
)
def test_super_resolution_pairs_have_the_references_names_and_sizes(tmp_path, kind, layout):
    data = kind(size=32, degradation="pil_bicubic", data_root=unpack(tmp_path, layout))
    item = data[0]
    assert (item["image"].shape, item["LR_image"].shape) == ((32, 32, 3), (8, 8, 3))
    assert item["image"].dtype == item["LR_image"].dtype == np.float32
