"""Keep in a picture's file what its prompts were translated or drawn from, and read it back.

The prompt that a picture is drawn from is the English one, which any program may redraw it from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ldm.settings.generation import GenerationSettings
from ldm.translation.letters import has_cjk

# The settings that are prompts, and the entry of each one's original.
PROMPTS = {
    "prompt": "Original prompt",
    "negative_prompt": "Original negative prompt",
    "sprompt": "Original source prompt",
}
# The templates that prompts were drawn from, and their entries: those of the web UI's extension.
TEMPLATES = {"template": "Template", "negative_template": "Negative Template"}
_PROMPT_OF = {"template": "prompt", "negative_template": "negative_prompt"}
# Settings that bring prompts which were not drawn yet.
_NEW = {*PROMPTS, "also", "from_file", "prompt_lang"}


def original_entries(settings: GenerationSettings) -> dict[str, str]:
    """Return the entries that a picture of these settings gets."""
    originals: dict[str, str] = {}
    for english, original in settings.originals:
        originals.setdefault(english, original)
    texts = {key: getattr(settings, name, None) for name, key in PROMPTS.items()}
    found = {key: originals[text] for key, text in texts.items() if text in originals}
    drawn_from = {key: getattr(settings, name) for name, key in TEMPLATES.items()}
    return found | {key: text for key, text in drawn_from.items() if text}


def recorded_language(
    entries: Mapping[str, str], values: Mapping[str, Any], given: Collection[str]
) -> dict[str, Any]:
    """Return the settings of the language of a recorded picture's prompts, and their templates.

    They are drawn as they are recorded, whatever the language, as they were drawn so before. Where
    wildcards are given, prompts are drawn from the templates again.

    Args:
        entries: What the picture records.
        values: Its settings by name.
        given: Names of settings that the user overrides.
    """
    pairs = [
        (values[name], entries[key])
        for name, key in PROMPTS.items()
        if key in entries and values.get(name) and name not in given
    ]
    drawn = [values[name] for name in PROMPTS if values.get(name)]
    settled = any(map(has_cjk, drawn)) and not _NEW & set(given)
    made = {
        (_PROMPT_OF[name] if "wildcards" in given else name): entries[key]
        for name, key in TEMPLATES.items()
        if key in entries and _PROMPT_OF[name] not in given
    }
    return made | {"originals": tuple(pairs)} | ({"prompt_lang": "none"} if settled else {})
