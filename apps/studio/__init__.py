"""One page for all that a picture goes through: text, image, repair, larger size, comparison.

    settings (flags)  ->  app (model, gate, address)  ->  page (the tabs)  ->  tabs/NAME.build
    queue (one model, one job at a time)  ->  state (how far a job is)  ->  panel (shows it)
    form (controls of a schema)      words (the page's languages)      styles, counting (of prompts)

Only ``page``, ``panel``, ``form`` and the tabs import gradio; ``app`` when it builds the page.
"""
