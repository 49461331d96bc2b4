"""How pictures were made, as other programs write it into their files."""

from __future__ import annotations

import copy
import json

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ldm.errors import UserError
from ldm.images.comfyui import GraphUnclear, values_of_graph
from ldm.images.recipes import read_recipe, recipe_in


@pytest.fixture
def save(tmp_path):
    """Save a picture of 64x96 with texts in it; return its path."""

    def saver(**texts):
        chunks = PngInfo()
        for key, text in texts.items():
            text = text if isinstance(text, str) else json.dumps(text)
            chunks.add_text(key.replace("__", "-"), text)
        Image.new("RGB", (64, 96)).save(tmp_path / "x.png", pnginfo=chunks)
        return tmp_path / "x.png"

    return saver


def comfyui(**sampler):
    """A graph that draws one picture from text."""
    inputs = {"seed": 156680208700286, "steps": 20, "cfg": 8.0, "sampler_name": "euler_ancestral"}
    inputs |= {"scheduler": "normal", "denoise": 1.0, "latent_image": ["5", 0], "model": ["4", 0]}
    inputs |= {"positive": ["6", 0], "negative": ["7", 0], **sampler}
    nodes = {
        "3": ("KSampler", inputs),
        "4": ("CheckpointLoaderSimple", {"ckpt_name": "v1-5.safetensors"}),
        "5": ("EmptyLatentImage", {"width": 512, "height": 640, "batch_size": 1}),
        "6": ("CLIPTextEncode", {"text": "a cat", "clip": ["4", 1]}),
        "7": ("CLIPTextEncode", {"text": "fog", "clip": ["4", 1]}),
        "8": ("VAEDecode", {"samples": ["3", 0], "vae": ["4", 2]}),
        "9": ("SaveImage", {"images": ["8", 0]}),
    }
    return {key: {"class_type": kind, "inputs": values} for key, (kind, values) in nodes.items()}


INVOKEAI = {
    "app_version": "3.4.0",
    "generation_mode": "txt2img",
    "positive_prompt": "a cat",
    "negative_prompt": "fog",
    "width": 512,
    "height": 640,
    "seed": 3,
    "rand_device": "cpu",
    "cfg_scale": 7.5,
    "steps": 30,
    "scheduler": "euler_a",
    "model": {"model_name": "sd15", "base_model": "sd-1"},
    "controlnets": [],
    "vae": None,
}
SD_METADATA = {
    "model": "stable diffusion",
    "model_weights": "sd-1.4",
    "app_id": "invoke-ai/InvokeAI",
    "image": {
        "prompt": [{"prompt": "a cat", "weight": 1}],
        "steps": 50,
        "cfg_scale": 7.5,
        "height": 512,
        "width": 448,
        "seed": 3,
        "seamless": False,
        "type": "txt2img",
        "sampler": "k_lms",
    },
}
NOVELAI = {"steps": 28, "sampler": "k_euler", "seed": 7, "strength": 0.7, "scale": 11, "uc": "fog"}
SWARM = {"prompt": "a cat", "negativeprompt": "fog", "seed": 2, "steps": 20, "cfgscale": 7.5}
SWARM |= {"width": 512, "height": 768, "sampler": "dpmpp_2m", "scheduler": "karras"}
FOOOCUS = {"prompt": "a cat", "seed": "1234567890123", "steps": 30, "guidance_scale": 4.0}
FOOOCUS |= {"sampler": "euler", "resolution": "(896, 1152)"}
EASY = {"prompt": "a cat", "seed": "5", "num_inference_steps": "25", "guidance_scale": "7.5"}
EASY |= {"sampler_name": "euler_a", "width": "512", "height": "576", "negative_prompt": "fog"}
DRAW_THINGS = {"c": "a cat", "uc": "fog", "seed": 3, "steps": 20, "sampler": "Euler A"}
DRAW_THINGS |= {"scale": 7.5, "size": "512x448"}


@pytest.mark.parametrize(
    ("texts", "negative", "expected"),
    [
        (
            {"prompt": comfyui(), "workflow": {}},
            "fog",
            "20 8.0 156680208700286 Euler a 512x640 v1-5.safetensors",
        ),
        ({"prompt": comfyui(scheduler="karras")}, "fog", "karras"),
        ({"invokeai_metadata": INVOKEAI}, "fog", "30 7.5 3 Euler a 512x640 sd15"),
        ({"invokeai_metadata": {**INVOKEAI, "seed": 0}}, "fog", "30 7.5 0 Euler a 512x640"),
        ({"sd__metadata": SD_METADATA}, "", "50 7.5 3 LMS 448x512 sd-1.4"),
        ({"Dream": '"a cat" -s 50 -S 123 -W 512 -H 576 -C7.5 -A k_euler_a'}, "", "50 7.5 123"),
        (
            {"Software": "NovelAI", "Description": "a cat", "Comment": NOVELAI},
            "fog",
            "28 11 7 Euler 64x96",
        ),
        (EASY, "fog", "25 7.5 5 Euler a 512x576"),
        ({"parameters": {"sui_image_params": SWARM}}, "fog", "20 7.5 2 DPM++ 2M 512x768 karras"),
        ({"parameters": FOOOCUS}, "", "30 4.0 1234567890123 Euler 896x1152"),
        ({"parameters": DRAW_THINGS}, "fog", "20 7.5 3 512x448"),
        ({"parameters": "a cat\nSteps: 9, Seed: 1, Size: 64x64"}, "", "9 1 64x64"),
        ({"parameters": "a cat", "prompt": comfyui()}, "fog", "20 8.0 Euler a"),
    ],
)
def test_each_programs_form_is_read(save, texts, negative, expected):
    recipe = read_recipe(save(**texts))
    assert (recipe.prompt, recipe.negative_prompt) == ("a cat", negative)
    assert "Denoising strength" not in recipe.entries  # NovelAI notes one for every picture
    said = " ".join(
        recipe.entries.get(key, "")
        for key in ("Steps", "CFG scale", "Seed", "Sampler", "Size", "Model", "Schedule type")
    ).split()
    assert [word for word in expected.split() if word not in said] == []


def test_what_a_form_says_besides_is_kept_under_a_name():
    graph = comfyui()
    assert "Clip skip" not in _entries(graph)
    graph["10"] = {"class_type": "IPAdapterApply", "inputs": {"weight": 1.0}}
    graph["11"] = {"class_type": "CLIPSetLastLayer", "inputs": {"stop_at_clip_layer": -2}}
    entries = _entries(graph)
    assert (entries["nodes"], entries["clip_skip"]) == ("IPAdapterApply", 2)


def _entries(graph):
    return {key: value for key, value in values_of_graph(graph).items() if value is not None}


def test_invokeai_counts_skipped_layers_and_automatic1111_the_layer_used(save):
    recipe = read_recipe(save(invokeai_metadata={**INVOKEAI, "clip_skip": 1, "loras": ["x"]}))
    assert recipe.entries["Clip skip"] == "2"
    assert "x" in recipe.entries["Lora hashes"]


@pytest.mark.parametrize(
    "texts",
    [
        {"invokeai_metadata": {**INVOKEAI, "generation_mode": "img2img", "strength": 0.6}},
        {"sd__metadata": {"image": {**SD_METADATA["image"], "type": "img2img", "strength": 0.6}}},
        {"Dream": "'a cat' -s 5 -S 1 -I init.png -f 0.6"},
        {
            "Software": "NovelAI",
            "Description": "a cat",
            "Comment": {**NOVELAI, "request_type": "Img2ImgRequest", "strength": 0.6},
        },
        {"prompt": comfyui(latent_image=["8", 0], denoise=0.6)},
    ],
)
def test_image_to_image_is_known_by_its_strength(save, texts):
    assert read_recipe(save(**texts)).entries["Denoising strength"] == "0.6"


def two_samplers():
    graph = comfyui()
    more = {"12": copy.deepcopy(graph["3"]), "13": copy.deepcopy(graph["9"])}
    more["13"]["inputs"]["images"] = ["12", 0]
    return {**graph, **more}


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"prompt": two_samplers()}, "ComfyUI .* 2 KSampler nodes"),
        ({"prompt": comfyui(seed=["20", 0])}, "its seed comes out of a node"),
        ({"prompt": comfyui(positive=["8", 0])}, "a prompt comes out of a 'VAEDecode' node"),
        ({"prompt": comfyui(positive=["99", 0])}, "ComfyUI"),
        ({"prompt": "{"}, "ComfyUI"),
        ({"prompt": {"1": 5}}, "ComfyUI"),
        ({"invokeai_metadata": "[1]"}, "InvokeAI"),
        ({"invokeai_metadata": "null"}, "InvokeAI"),
        ({"sd__metadata": {"app_id": "x"}}, "InvokeAI 2"),
        ({"Dream": '"a cat'}, "InvokeAI 1"),
        ({"Software": "NovelAI", "Comment": "none"}, "NovelAI"),
        ({"parameters": "{broken"}, "stores JSON"),
    ],
)
def test_what_is_not_unambiguous_is_one_line_that_names_the_program(save, texts, words):
    with pytest.raises(UserError, match=words) as error:
        read_recipe(save(**texts))
    assert "\n" not in str(error.value) and "--seed" in str(error.value)


def linked(graph=None, **nodes):
    """Return a graph with more nodes, named by their ids: ``n20=("Kind", {inputs})``."""
    more = {k[1:]: {"class_type": kind, "inputs": held} for k, (kind, held) in nodes.items()}
    return {**(graph or comfyui()), **more}


GRAPHS = {
    "a sampler that nothing saves does not count": (
        lambda: {**comfyui(), "12": comfyui(seed=1)["3"]},
        {"Seed": "156680208700286"},
    ),
    "the first of two walks is the recipe, and the second is named": (
        lambda: linked(
            n30=("LatentUpscale", {"samples": ["3", 0], "width": 1024, "height": 1280}),
            n31=(
                "KSampler",
                {**comfyui(seed=9, denoise=0.5)["3"]["inputs"], "latent_image": ["30", 0]},
            ),
            n8=("VAEDecode", {"samples": ["31", 0]}),
        ),
        {
            "Seed": "156680208700286",
            "Size": "512x640",
            "hires_fix": "1 more walks from its picture",
        },
    ),
    "a seed and a text from nodes that show them": (
        lambda: linked(
            comfyui(seed=["20", 0]),
            n20=("Seed (rgthree)", {"seed": 77}),
            n6=("CLIPTextEncode", {"text": ["21", 0]}),
            n21=("Reroute", {"": ["22", 0]}),
            n22=("PrimitiveString", {"value": "a cat"}),
        ),
        {"Seed": "77"},
    ),
    "a prompt behind a ControlNet": (
        lambda: linked(
            comfyui(positive=["20", 0], negative=["20", 1]),
            n20=("ControlNetApplyAdvanced", {"positive": ["6", 0], "negative": ["7", 0]}),
        ),
        {"nodes": "ControlNetApplyAdvanced"},
    ),
    "a custom sampler made of parts": (
        lambda: linked(
            n3=(
                "SamplerCustomAdvanced",
                {
                    k: [n, 0]
                    for k, n in zip(("noise", "guider", "sampler", "sigmas"), "abcd", strict=True)
                }
                | {"latent_image": ["5", 0]},
            ),
            na=("RandomNoise", {"noise_seed": 5}),
            nb=(
                "CFGGuider",
                {"cfg": 3.5, "positive": ["6", 0], "negative": ["7", 0], "model": ["4", 0]},
            ),
            nc=("KSamplerSelect", {"sampler_name": "dpmpp_2m"}),
            nd=("BasicScheduler", {"scheduler": "karras", "steps": 12, "denoise": 1.0}),
        ),
        {
            "Seed": "5",
            "CFG scale": "3.5",
            "Sampler": "DPM++ 2M",
            "Schedule type": "karras",
            "Steps": "12",
        },
    ),
    "steps that no node shows are named": (
        lambda: linked(comfyui(steps=["20", 0]), n20=("Rolled", {"from": 1, "to": 9})),
        {"steps of a node": "unclear", "nodes": "Rolled"},
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_links_of_a_graph_are_followed(save, name):
    make, expected = GRAPHS[name]
    recipe = read_recipe(save(prompt=make()))
    assert (recipe.prompt, recipe.negative_prompt) == ("a cat", "fog")
    assert {key: recipe.entries.get(key) for key in expected} == expected


def test_a_negative_that_is_zeroed_is_none(save):
    graph = linked(
        comfyui(negative=["20", 0]), n20=("ConditioningZeroOut", {"conditioning": ["6", 0]})
    )
    assert read_recipe(save(prompt=graph)).negative_prompt == ""


def comfyui_loras():
    return linked(
        comfyui(model=["21", 0]),
        n20=(
            "LoraLoader",
            {"lora_name": "styles\\ink.safetensors", "strength_model": 0.8, "model": ["4", 0]},
        ),
        n21=(
            "Power Lora Loader",
            {
                "lora_1": {"on": True, "lora": "fog.pt", "strength": -1},
                "lora_2": {"on": False, "lora": "off.pt", "strength": 1},
                "model": ["20", 0],
            },
        ),
    )


@pytest.mark.parametrize(
    "texts",
    [
        {"prompt": comfyui_loras()},
        {
            "invokeai_metadata": {
                **INVOKEAI,
                "loras": [
                    {"lora": {"model_name": "ink", "base_model": "sd-1"}, "weight": 0.8},
                    {"model": {"name": "fog", "key": "x"}, "weight": -1},
                ],
            }
        },
        {"parameters": {**FOOOCUS, "loras": [["ink.safetensors", 0.8, "ab"], ["fog.pt", -1]]}},
        {
            "parameters": {
                **FOOOCUS,
                "lora_combined_1": "ink.safetensors : 0.8",
                "lora_combined_2": "fog.pt : -1",
            }
        },
        {
            "parameters": {
                "sui_image_params": {**SWARM, "loras": ["ink", "fog"], "loraweights": ["0.8", "-1"]}
            }
        },
        {
            "parameters": {
                **DRAW_THINGS,
                "lora": [{"model": "ink.ckpt", "weight": 0.8}, {"model": "fog", "weight": -1}],
            }
        },
    ],
)
def test_loras_stand_in_the_prompt_as_tags(save, texts):
    recipe = read_recipe(save(**texts))
    assert recipe.prompt == "a cat <lora:ink:0.8> <lora:fog:-1>"
    assert not [key for key in recipe.entries if "lora" in key.lower()]


@pytest.mark.parametrize("lora", [["x>y", 1], ["x", "a"], ["x", 1e9], [5, 1], "x", {"weight": 1}])
def test_a_lora_that_is_no_tag_is_kept_by_name(save, lora):
    recipe = read_recipe(save(parameters={**FOOOCUS, "loras": [lora]}))
    assert recipe.prompt == "a cat" and "Lora hashes" in recipe.entries


def test_a_circle_of_links_is_one_line(save):
    graph = linked(
        comfyui(positive=["20", 0]),
        n20=("ConditioningAverage", {"conditioning_to": ["21", 0]}),
        n21=("ConditioningAverage", {"conditioning_to": ["20", 0]}),
    )
    with pytest.raises(UserError, match="a prompt comes out of"):
        read_recipe(save(prompt=graph))


def workflow(**modes):
    """The graph of ``comfyui`` with a LoRA, as the editor saves it; modes by the nodes' ids."""
    rows = [
        # id, type, values, inputs by name: (link's number, kind)
        (
            3,
            "KSampler",
            [77, "randomize", 20, 8.0, "euler", "karras", 1.0],
            {
                "model": (2, "MODEL"),
                "positive": (3, "CONDITIONING"),
                "negative": (4, "CONDITIONING"),
                "latent_image": (5, "LATENT"),
            },
        ),
        (4, "CheckpointLoaderSimple", ["v1-5.safetensors"], {}),
        (5, "EmptyLatentImage", [512, 640, 1], {}),
        (6, "CLIPTextEncode", ["a cat"], {}),
        (7, "TextByAnother", ["fog", 3], {}),
        (8, "VAEDecode", [], {"samples": (6, "LATENT")}),
        (9, "SaveImage", ["out"], {"images": (7, "IMAGE")}),
        (20, "LoraLoader", ["ink.safetensors", 0.8, 1.0], {"model": (1, "MODEL")}),
    ]
    nodes = [
        {
            "id": key,
            "type": kind,
            "widgets_values": values,
            "mode": modes.get(f"n{key}", 0),
            "outputs": [{"type": "CONDITIONING"}] if "Text" in kind else [],
            "inputs": [{"name": n, "link": k, "type": t} for n, (k, t) in inputs.items()],
        }
        for key, kind, values, inputs in rows
    ]
    links = [[1, 4, 0, 20, 0, "MODEL"], [2, 20, 0, 3, 0, "MODEL"], [3, 6, 0, 3, 1, "CONDITIONING"]]
    links += [[4, 7, 0, 3, 2, "CONDITIONING"], [5, 5, 0, 3, 3, "LATENT"], [6, 3, 0, 8, 0, "LATENT"]]
    return {"nodes": nodes, "links": [*links, [7, 8, 0, 9, 0, "IMAGE"]]}


@pytest.mark.parametrize(("modes", "prompt"), [({}, "a cat <lora:ink:0.8>"), ({"n20": 4}, "a cat")])
def test_a_picture_with_the_editors_workflow_alone_is_read_too(save, modes, prompt):
    recipe = read_recipe(save(workflow=workflow(**modes)))
    assert (recipe.prompt, recipe.negative_prompt) == (prompt, "fog")
    expected = {"Seed": "77", "Steps": "20", "Sampler": "Euler", "Schedule type": "karras"}
    expected |= {"Size": "512x640", "Model": "v1-5.safetensors", "CFG scale": "8.0"}
    assert {key: recipe.entries.get(key) for key in expected} == expected


def test_whatever_is_changed_in_a_recipe_it_is_read_or_refused_in_one_line(save):
    """Each value in turn is replaced by each kind of value that does not belong there."""
    forms = {
        "prompt": comfyui_loras(),
        "workflow": workflow(),
        "invokeai_metadata": {**INVOKEAI, "loras": [{"lora": {"model_name": "x"}, "weight": 1}]},
        "sd-metadata": SD_METADATA,
        "parameters": {**FOOOCUS, "loras": [["x", 1]]},
    }
    odd = [None, [], {}, "x", -1, 10**399, float("nan"), ["3", 0], [["3"]], {"lora": "x", "on": 1}]
    tried = 0
    for key, form in forms.items():
        for place in places(form):
            for value in odd:
                image = Image.new("RGB", (8, 8))
                image.info[key] = json.dumps(changed(form, place, value))
                tried += 1
                try:
                    recipe_in(image)
                except UserError as error:
                    assert "\n" not in str(error)
    assert tried > 1000


def places(node, here=()):
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*here, key)
        if isinstance(value, dict | list):
            yield from places(value, (*here, key))


def changed(node, place, value):
    node = copy.copy(node)
    node[place[0]] = value if len(place) == 1 else changed(node[place[0]], place[1:], value)
    return node


def test_a_graph_of_thousands_of_samplers_is_refused_at_once():
    sampler = {"class_type": "KSampler", "inputs": comfyui()["3"]["inputs"]}
    graph = {str(k): copy.deepcopy(sampler) for k in range(5000)}
    for k in range(1, 5000):
        graph[str(k)]["inputs"]["latent_image"] = [str(k - 1), 0]
    graph["empty"] = comfyui()["5"]
    graph["0"] = comfyui(latent_image=["empty", 0])["3"]
    with pytest.raises(GraphUnclear, match="5000 KSampler nodes"):
        values_of_graph(graph)


@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_recipes_are_read_from_jpeg_and_webp(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "a cat\nSteps: 9, Seed: 1, Size: 64x64".encode(
        "utf-16-be"
    )
    Image.new("RGB", (64, 64)).save(path, exif=exif)
    recipe = read_recipe(path)
    assert (recipe.prompt, recipe.entries["Steps"]) == ("a cat", "9")


def test_comfyuis_webp_holds_its_graph_in_its_exif_data(tmp_path):
    exif = Image.Exif()
    exif[0x0110], exif[0x010F] = f"prompt:{json.dumps(comfyui())}", "workflow:{}"
    Image.new("RGB", (64, 64)).save(tmp_path / "x.webp", exif=exif)
    assert read_recipe(tmp_path / "x.webp").prompt == "a cat"


@pytest.mark.parametrize("texts", [{}, {"Comment": "made by hand"}, {"prompt": "a cat"}])
def test_a_picture_that_does_not_say_has_no_recipe(save, texts):
    assert read_recipe(save(**texts)) is None
