"""Turn ComfyUI's workflow, which its editor saves, into the node graph that it runs.

A workflow lists nodes with links by number, and values by the order in which the editor shows
them, without names. For the nodes of ComfyUI itself that order is known; of other nodes only what
is linked is read, and texts alone in nodes that make a conditioning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ldm.budgets import RECIPE_DEPTH

_SKIPPED, _BYPASSED = 2, 4  # modes of a node
_CONTROL = ""  # "randomize" or "fixed", which the editor shows after a seed
_SHOWN = {
    "KSampler": ("seed", _CONTROL, "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        *("add_noise", "noise_seed", _CONTROL, "steps", "cfg", "sampler_name", "scheduler"),
        *("start_at_step", "end_at_step", "return_with_leftover_noise"),
    ),
    "SamplerCustom": ("add_noise", "noise_seed", _CONTROL, "cfg"),
    "RandomNoise": ("noise_seed", _CONTROL),
    "CFGGuider": ("cfg",),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "CLIPTextEncode": ("text",),
    "CLIPSetLastLayer": ("stop_at_clip_layer",),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "PrimitiveNode": ("value", _CONTROL),
    "PrimitiveInt": ("value", _CONTROL),
    "PrimitiveString": ("value",),
}


def graph_of_workflow(workflow: Mapping[str, Any]) -> dict[str, Any]:
    """Return the graph of a workflow: ``{id: {"class_type": ..., "inputs": {...}}}``.

    Nodes that are switched off are left out; what is bypassed passes its input of that kind on.

    Args:
        workflow: ``{"nodes": [...], "links": [[number, from, output, to, input, kind], ...]}``.

    Raises:
        LookupError: A link or a node that is named is not there; likewise ``TypeError`` and
            ``AttributeError`` for what is no workflow.
    """
    nodes = {each["id"]: each for each in workflow["nodes"]}
    links = dict(map(_link, workflow["links"]))
    graph = {}
    for key, node in nodes.items():
        if node.get("mode", 0) not in (_SKIPPED, _BYPASSED):
            linked = dict(_linked(node, nodes, links))
            inputs = {**_values(node), **linked}
            graph[str(key)] = {"class_type": node["type"], "inputs": inputs}
    return graph


def _link(link: Any) -> tuple[Any, tuple[Any, Any, Any]]:
    """Return a link's number, and the node, the output and the kind that it brings."""
    if isinstance(link, dict):
        return link["id"], (link["origin_id"], link["origin_slot"], link["type"])
    return link[0], (link[1], link[2], link[5])


def _linked(
    node: Mapping[str, Any], nodes: Mapping[Any, Any], links: Mapping[Any, tuple[Any, Any, Any]]
) -> Iterator[tuple[str, list[Any]]]:
    for each in node.get("inputs") or ():
        if each.get("link") is None:
            continue
        origin, output, kind = links[each["link"]]
        for _ in range(RECIPE_DEPTH):
            source = nodes[origin]
            if source.get("mode", 0) != _BYPASSED:
                yield each["name"], [str(origin), output]
                break
            passed = [x for x in source.get("inputs") or () if x.get("type") == kind]
            if not passed or passed[0].get("link") is None:
                break
            origin, output, kind = links[passed[0]["link"]]


def _values(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's values by their names, as far as these are known."""
    values = node.get("widgets_values") or ()
    if isinstance(values, dict):
        return dict(values)
    names = _SHOWN.get(node["type"])
    if names is not None:
        return {k: v for k, v in zip(names, values, strict=False) if k != _CONTROL}
    makes = [each.get("type") for each in node.get("outputs") or ()]
    texts = [each for each in values if isinstance(each, str)]
    return {"text": texts[0]} if "CONDITIONING" in makes and len(texts) == 1 else {}
