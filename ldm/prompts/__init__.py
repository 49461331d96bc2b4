"""Prompts as artists write them: their grammar, and how its parts are encoded."""

from pkgutil import extend_path

from ldm.lazy import lazy_exports

__path__ = extend_path(__path__, __name__)

ADDRESSES = {
    "A1111Encoder": "ldm.prompts.a1111_encoder",
    "CompelEncoder": "ldm.prompts.compel_encoder",
    "PromptGuidance": "ldm.prompts.guidance",
    "Tag": "ldm.settings.tags",
    "parse_a1111": "ldm.prompts.a1111",
    "parse_compel": "ldm.prompts.compel_grammar",
    "pieces": "ldm.prompts.emphasis",
    "split_tags": "ldm.settings.tags",
}
__all__ = list(ADDRESSES)
__getattr__, __dir__ = lazy_exports(__name__, ADDRESSES)
