"""Read a ComfyUI node graph: the walk that began its picture, and what it was given.

A picture of ComfyUI stores the graph that drew it: nodes by their ids, each with its
``class_type`` and ``inputs``; an input is a value, or ``[id, output]`` of another node. Links are
followed from the node that saved the picture back to the sampler, and from there to its texts, its
size, its model and the LoRAs on the way. Nothing of a graph is ever run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from ldm.budgets import RECIPE_DEPTH
from ldm.legible import quoted

_EMPTY, _TEXT, _SKIP = "EmptyLatentImage", "CLIPTextEncode", "CLIPSetLastLayer"
_ZERO = "ConditioningZeroOut"
# What a graph without extras is made of; other nodes are told by name.
_PLAIN = frozenset(
    {
        *("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced", "CFGGuider"),
        *("KSamplerSelect", "BasicScheduler", "RandomNoise", "BasicGuider", "LoraLoader"),
        *("LoraLoaderModelOnly", "CheckpointLoaderSimple", "CheckpointLoader", "VAEDecode"),
        *("SaveImage", "PreviewImage", "PrimitiveInt", "PrimitiveString", "Reroute", "Note"),
        *(_EMPTY, _TEXT, _SKIP, _ZERO),
    }
)
_SAVING = ("save", "preview")  # how names of nodes begin that end a graph
_SETTINGS = ("seed", "noise_seed", "steps", "cfg", "sampler_name", "scheduler")
_HELD_BY = ("sampler", "sigmas", "noise", "guider")  # nodes that hold a custom sampler's settings
_VALUE_OF = ("value", "int", "float", "number", "string", "text", "seed", "noise_seed")
_TEXTS = ("text", "text_g", "text_l", "clip_l", "t5xxl", "prompt")
_CONDITIONINGS = ("conditioning", "conditioning_1", "conditioning_2")
_CONDITIONINGS = (*_CONDITIONINGS, "conditioning_to", "conditioning_from")
_LATENTS = ("latent_image", "samples", "latent")


class GraphUnclear(ValueError):
    """The graph does not say which settings drew the picture."""


Node = Mapping[str, Any]


def values_of_graph(graph: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a graph under ComfyUI's names; ``loras`` are names with weights.

    Args:
        graph: ``{id: {"class_type": ..., "inputs": {...}}}``.

    Raises:
        GraphUnclear: It has no sampler or several that do not follow one another, or its seed or a
            prompt comes out of a node that does not show it.
    """
    reader = _Graph(graph)
    first, later = reader.samplers()
    inputs = reader.settings_of(first)
    values = reader.plain_values(inputs)
    values["prompt"] = reader.text(inputs["positive"])
    values["negative_prompt"] = reader.text(inputs["negative"]) if "negative" in inputs else ""
    values |= reader.picture(inputs)
    values |= reader.model(inputs)
    layers = [node["inputs"] for node in graph.values() if node["class_type"] == _SKIP]
    if layers:
        values["clip_skip"] = -reader.value(layers[0], "stop_at_clip_layer")
    if later:
        values["hires_fix"] = f"{len(later)} more walks from its picture"
    others = {str(node["class_type"]) for node in graph.values()} - _PLAIN
    if others:
        values["nodes"] = ", ".join(sorted(others))
    return values


class _Graph:
    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self.nodes = nodes

    def samplers(self) -> tuple[Node, list[Node]]:
        """Return the sampler that began the saved picture, and those after it."""
        found = {key: node for key, node in self.nodes.items() if _samples(node)}
        ends = [k for k, node in self.nodes.items() if _saves(node)]
        if len(found) > 1 and ends:
            saved = self._behind([*chain(*(self.nodes[end]["inputs"].values() for end in ends))])
            found = {key: node for key, node in found.items() if key in saved} or found
        if len(found) > RECIPE_DEPTH:
            raise GraphUnclear(f"its graph has {len(found)} KSampler nodes")
        first = [key for key, node in found.items() if not self._continues(node, found)]
        if len(first) != 1:
            raise GraphUnclear(
                f"its graph has {len(found)} KSampler nodes"
                + (", none of which follows another" if len(first) > 1 else "")
            )
        return found[first[0]], [node for key, node in found.items() if key != first[0]]

    def _continues(self, node: Node, samplers: Mapping[str, Node]) -> bool:
        """Return whether a sampler starts from what another one made."""
        links = [node["inputs"][key] for key in _LATENTS if key in node["inputs"]]
        return any(samplers.get(key, node) is not node for key in self._behind(links))

    def _behind(self, inputs: Iterable[Any]) -> set[str]:
        """Return the ids of all nodes that inputs depend on."""
        seen: set[str] = set()
        waiting = [link[0] for link in inputs if _is_link(link)]
        while waiting:
            key = waiting.pop()
            if key in seen or key not in self.nodes:
                continue
            seen.add(key)
            links = self.nodes[key]["inputs"].values()
            waiting += [link[0] for link in links if _is_link(link)]
        return seen

    def settings_of(self, sampler: Node) -> dict[str, Any]:
        """Return a sampler's inputs, with those of the nodes that a custom one is made of."""
        inputs = dict(sampler["inputs"])
        for key in _HELD_BY:
            if _is_link(inputs.get(key)):
                inputs |= {
                    k: v for k, v in self._node(inputs[key])["inputs"].items() if k != "model"
                }
                model = self._node(inputs[key])["inputs"].get("model")
                inputs.setdefault("model", model)
        if "positive" not in inputs and "conditioning" in inputs:
            inputs["positive"] = inputs["conditioning"]  # a guider without guidance
        return inputs

    def plain_values(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return steps, guidance, sampler and seed; name those that no node shows."""
        values: dict[str, Any] = {}
        for key in _SETTINGS:
            if key not in inputs:
                continue
            try:
                values[key] = self.value(inputs, key)
            except GraphUnclear:
                if "seed" in key:
                    raise
                values[f"{key} of a node"] = "unclear"
        return values

    def value(self, inputs: Mapping[str, Any], key: str) -> Any:
        """Return an input's value, from behind links if it is shown there."""
        found = inputs[key]
        for _ in range(RECIPE_DEPTH):
            if not _is_link(found):
                break
            held = self.nodes.get(found[0], {}).get("inputs", {})
            names = [name for name in (key, *_VALUE_OF) if name in held]
            names = names or ([*held] if len(held) == 1 else [])  # one that passes a value on
            if not names:
                raise GraphUnclear(f"its {key} comes out of a node")
            found = held[names[0]]
        if isinstance(found, list | dict):
            raise GraphUnclear(f"its {key} comes out of a node")
        return found

    def text(self, link: Any) -> str:
        """Return the text behind a conditioning; of several that are combined, all of them."""
        texts, waiting = [], [(link, 0)]
        while waiting:
            link, depth = waiting.pop(0)
            node = self._node(link)
            kind, inputs = node["class_type"], node["inputs"]
            if kind == _ZERO:
                continue
            held = [key for key in _TEXTS if key in inputs]
            # Some have one output for each of their two conditionings.
            sided = ("positive", "negative")[link[1] == 1]
            behind = [inputs[key] for key in _CONDITIONINGS if key in inputs]
            behind = behind or ([inputs[sided]] if sided in inputs else [])
            if held:
                texts += dict.fromkeys(str(self.value(inputs, key)) for key in held)
            elif not behind or depth > RECIPE_DEPTH or len(texts) + len(waiting) > RECIPE_DEPTH:
                raise GraphUnclear(f"a prompt comes out of a {quoted(kind)} node")
            else:
                waiting += [(each, depth + 1) for each in behind]
        return ", ".join(dict.fromkeys(text for text in texts if text))

    def picture(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the walk starts from: an empty latent of a size, or a picture."""
        denoise = self.value(inputs, "denoise") if "denoise" in inputs else 1
        node = self._node(next(inputs[key] for key in _LATENTS if key in inputs))
        for _ in range(RECIPE_DEPTH):
            held = node["inputs"]
            if "empty" in str(node["class_type"]).lower() and {"width", "height"} <= held.keys():
                sides = {side: self.value(held, side) for side in ("width", "height")}
                return sides if denoise == 1 else {**sides, "denoise": denoise}
            links = [held[key] for key in _LATENTS if _is_link(held.get(key))]
            if not links or node["class_type"] == "VAEDecode":
                break
            node = self._node(links[0])
        return {"type": "img2img", "strength": denoise}

    def model(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the checkpoint, and the LoRAs between it and the sampler, as they are attached."""
        loras: list[tuple[str, Any]] = []
        link = inputs.get("model")
        for _ in range(RECIPE_DEPTH):
            if not _is_link(link) or link[0] not in self.nodes:
                break
            held = self._node(link)["inputs"]
            for key in ("ckpt_name", "unet_name"):
                if key in held:
                    return {"model": self.value(held, key), "loras": loras[::-1]}
            loras += _loras(held)
            link = held.get("model")
        names = {self.value(n["inputs"], "ckpt_name") for n in self.nodes.values() if _loads(n)}
        return {"model": names.pop() if len(names) == 1 else None, "loras": loras[::-1]}

    def _node(self, link: Any) -> Node:
        return self.nodes[link[0]]


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _samples(node: Node) -> bool:
    """Return whether a node is a sampler: of ComfyUI itself, or of an extension like them."""
    inputs = node["inputs"]
    told = {"seed", "noise_seed", "sigmas"} & inputs.keys()
    texts = {"positive", "guider"} & inputs.keys()
    return bool(told and texts and any(key in inputs for key in _LATENTS))


def _saves(node: Node) -> bool:
    return str(node["class_type"]).lower().startswith(_SAVING)


def _loads(node: Node) -> bool:
    return "ckpt_name" in node["inputs"]


def _loras(held: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the LoRAs of one node, the last first: names and weights."""
    if isinstance(held.get("lora_name"), str):
        yield held["lora_name"], held.get("strength_model", 1)
    for value in reversed(held.values()):
        # As nodes for any number of LoRAs have them.
        if isinstance(value, dict) and isinstance(value.get("lora"), str) and value.get("on"):
            yield value["lora"], value.get("strength", 1)
