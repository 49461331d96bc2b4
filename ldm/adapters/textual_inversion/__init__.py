"""Textual inversion (arXiv:2208.01618): vectors that a word of the prompt stands for."""

from pkgutil import extend_path

from ldm.lazy import lazy_exports

__path__ = extend_path(__path__, __name__)

ELSEWHERE = {
    "Embedding": "ldm.adapters.textual_inversion.embedding",
    "read_embedding": "ldm.adapters.textual_inversion.reading",
    "write_embedding": "ldm.adapters.textual_inversion.writing",
}
__all__ = list(ELSEWHERE)
__getattr__, __dir__ = lazy_exports(__name__, ELSEWHERE)
