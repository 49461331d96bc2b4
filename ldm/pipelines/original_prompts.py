"""Keep in a picture's file the words that its prompts were translated from, and read them back.

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
# Settings that bring prompts which were not drawn yet.
_NEW = {*PROMPTS, "also", "from_file", "prompt_lang"}


def original_entries(settings: GenerationSettings) -> dict[str, str]:
    """Return the entries that a picture of these settings gets."""
    originals: dict[str, str] = {}
    for english, original in settings.originals:
        originals.setdefault(english, original)
    texts = {key: getattr(settings, name, None) for name, key in PROMPTS.items()}
    return {key: originals[text] for key, text in texts.items() if text in originals}


def recorded_language(
    entries: Mapping[str, str], values: Mapping[str, Any], given: Collection[str]
) -> dict[str, Any]:
    """Return the settings of the language of a recorded picture's prompts.

    They are drawn as they are recorded, whatever the language, as they were drawn so before.

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
    return {"originals": tuple(pairs)} | ({"prompt_lang": "none"} if settled else {})
