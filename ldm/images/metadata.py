r"""Write and read a picture's generation parameters in AUTOMATIC1111's text format.

The text is the prompt, a line "Negative prompt: ..." if there is one, and a last line of settings::

    a cat in a hat
    Negative prompt: blurry
    Steps: 50, Sampler: PLMS, CFG scale: 7.5, Seed: 42, Size: 512x512

Many programs read it, and nothing in it is escaped: a prompt with a line that begins with
"Negative prompt:", for example, reads back as something else. In such a case the settings get an
entry "Exact prompt" or "Exact negative prompt" with the text as a JSON string. Other programs see
one more setting; ``parse_parameters`` returns exactly what was written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from ldm.images.embed import encodable, parameters_in
from ldm.images.entries import KEY, entries_in
from ldm.images.io import open_image

NEGATIVE_MARK = "Negative prompt:"
EXACT_PROMPT = "Exact prompt"
EXACT_NEGATIVE_PROMPT = "Exact negative prompt"
# Readers take the last line for settings if it has this many entries; fewer may be prompt text.
FEWEST_SETTINGS = 3

# An extension's own line is one entry: what else it holds, such as a template, is text.
_LINE = re.compile(r"([A-Z][\w \-/]{1,60}): (.*)")
_OLD_SAMPLER = re.compile(
    "(.+) (karras|exponential|polyexponential|discrete|ays|gits|smoothstep|sgm_uniform|simple)",
    re.IGNORECASE,
)


def format_parameters(prompt: str, negative_prompt: str, params: Mapping[str, object]) -> str:
    """Write prompt, negative prompt and settings as one text.

    Args:
        prompt: Any text, of any script, with or without line breaks.
        negative_prompt: The same; "" for none.
        params: At least three settings in the order to be written, for example ``{"Steps": 50,
            "Sampler": "PLMS", "Seed": 42}``. Values are written with ``str``; None is left out.

    Returns:
        A text that ``parse_parameters`` reads back without loss.

    Raises:
        ValueError: A setting's name cannot be written in this format, or there are too few.

    Example:
        >>> print(format_parameters("a cat", "", {"Steps": 9, "Seed": 1, "Model": "a, b"}))
        a cat
        Steps: 9, Seed: 1, Model: "a, b"
    """
    settings = {key: str(value) for key, value in params.items() if value is not None}
    _check_settings(settings)
    entries = [f"{key}: {_quote_if_needed(value)}" for key, value in settings.items()]
    for _ in range(2):  # an exact prompt changes how the rest is read
        text = _compose(prompt, negative_prompt, entries)
        read_prompt, read_negative, _ = parse_parameters(text)
        if read_prompt != prompt:
            entries.append(f"{EXACT_PROMPT}: {_quote(prompt)}")
        if read_negative != negative_prompt:
            entries.append(f"{EXACT_NEGATIVE_PROMPT}: {_quote(negative_prompt)}")
    return _compose(prompt, negative_prompt, entries)


def parse_parameters(text: str) -> tuple[str, str, dict[str, str]]:
    """Read a ``parameters`` text from any program; what is not understood stays in the prompt.

    Settings are returned as text. Older programs' "Sampler: DPM++ 2M Karras" is not split
    (``split_sampler`` does that), nor is a JSON tail such as stable-diffusion.cpp's.

    Returns:
        Prompt, negative prompt ("" for none), and the settings in the order found.

    Example:
        >>> parse_parameters("a cat\\nNegative prompt: dog\\nSteps: 9, Seed: 1, Size: 64x64")
        ('a cat', 'dog', {'Steps': '9', 'Seed': '1', 'Size': '64x64'})
    """
    lines = text.rstrip().split("\n")
    start = _settings_start(lines)
    settings = dict(entries_in(lines[start])) if start < len(lines) else {}
    for line in lines[start + 1 :]:
        if match := _LINE.match(line):  # an extension's, which overrides nothing
            settings.setdefault(match[1].strip(), match[2].strip())
    prompt, negative_prompt = _split_prompts(lines[:start])
    prompt = settings.pop(EXACT_PROMPT, prompt)
    negative_prompt = settings.pop(EXACT_NEGATIVE_PROMPT, negative_prompt)
    return prompt, negative_prompt, settings


def read_parameters(path: str | Path) -> str | None:
    """Read the ``parameters`` text of a picture file; None if it has none, or one too long.

    Raises:
        UserError: There is no such file, or it is not a picture.
    """
    return parameters_in(open_image(path), path)


def split_sampler(settings: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the sampler and the noise schedule that settings name, in the new style or the old.

    Args:
        settings: As from ``parse_parameters``.

    Returns:
        The sampler ("" if none is named) and the schedule (None if none is named).

    Example:
        >>> split_sampler({"Sampler": "DPM++ 2M Karras"})
        ('DPM++ 2M', 'Karras')
        >>> split_sampler({"Sampler": "DPM++ 2M", "Schedule type": "Karras"})
        ('DPM++ 2M', 'Karras')
    """
    sampler = settings.get("Sampler", "")
    if "Schedule type" in settings:
        return sampler, settings["Schedule type"]
    old = _OLD_SAMPLER.fullmatch(sampler)
    return (old[1], old[2]) if old else (sampler, None)


def _check_settings(settings: Mapping[str, str]) -> None:
    for key in settings:
        if not KEY.fullmatch(key) or key != key.strip():
            raise ValueError(
                f"setting name {key!r}; 2 to 61 letters, digits, spaces, '-' or '/' are expected"
            )
        if key in (EXACT_PROMPT, EXACT_NEGATIVE_PROMPT):
            raise ValueError(f"setting name {key!r} is reserved; choose another")
    if len(settings) < FEWEST_SETTINGS:
        raise ValueError(
            f"{len(settings)} settings; at least {FEWEST_SETTINGS} are needed for the text to be "
            "recognised when it is read"
        )


def _compose(prompt: str, negative_prompt: str, entries: list[str]) -> str:
    parts = [prompt] if prompt else []
    if negative_prompt:
        parts.append(f"{NEGATIVE_MARK} {negative_prompt}")
    return encodable("\n".join([*parts, ", ".join(entries)]))


def _quote(text: str) -> str:
    # ASCII escapes only if needed: they can also hold a broken command line's lone surrogates.
    return json.dumps(text, ensure_ascii=encodable(text) != text)


def _quote_if_needed(value: str) -> str:
    """Quote what the web UI quotes (, : and line breaks) and what cannot be read back unquoted."""
    ambiguous = value[:1] in tuple('"[{') or value != value.strip() or encodable(value) != value
    return _quote(value) if ambiguous or re.search(r"[,:\n\r]", value) else value


def _settings_start(lines: list[str]) -> int:
    """Find the line of the settings; ``len(lines)`` if there is none.

    That is the last line that starts with "Steps:" and has enough of them, as extensions add lines
    after it, with colons of their own. Programs that begin with another setting end with the line,
    and so does a text with an exact prompt, which may hold such a line itself.
    """
    if EXACT_PROMPT in lines[-1] or EXACT_NEGATIVE_PROMPT in lines[-1]:
        last = dict(entries_in(lines[-1]))
        if len(last) >= FEWEST_SETTINGS and last.keys() & {EXACT_PROMPT, EXACT_NEGATIVE_PROMPT}:
            return len(lines) - 1
    for k in range(len(lines) - 1, -1, -1):
        if lines[k].startswith("Steps:") and _is_settings(lines[k]):
            return k
    return len(lines) - _is_settings(lines[-1])


def _is_settings(line: str) -> bool:
    return len(list(islice(entries_in(line), FEWEST_SETTINGS))) == FEWEST_SETTINGS


def _split_prompts(lines: list[str]) -> tuple[str, str]:
    for k, line in enumerate(lines):
        if line.lstrip().startswith(NEGATIVE_MARK):
            first = line.lstrip()[len(NEGATIVE_MARK) :].removeprefix(" ")
            return "\n".join(lines[:k]), "\n".join([first, *lines[k + 1 :]])
    return "\n".join(lines), ""
