"""Japanese and Chinese prompts in English: by a glossary, dictionaries and a translation model."""
