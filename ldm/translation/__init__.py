"""Japanese and Chinese prompts in English: a glossary, a dictionary and a translation model, in this order."""
