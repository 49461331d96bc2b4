"""Japanese and Chinese prompts in English: by a glossary, dictionaries and a translation model."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
