"""Web pages over the settings that every program shares.

    fields (a page's controls, from the options of its settings)  ->  layout (gradio components)
    worker (one model, one run at a time, told in views)          <-  what the page's button sends

Only ``layout``, ``pictures`` and ``server`` import gradio, and only when a page is built.
"""
