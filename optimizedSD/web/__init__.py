"""Web pages with gradio over the settings that every program shares.

    fields (controls from options, and back)  ->  layout (gradio components)
    page (what each of the four pages draws)      handlers (answer its buttons)
    server (starts one page's program)            worker (one model, one run at a time)  ->  state
    gate (before gradio: hosts, calls, uploads)   limits and line (before the worker)
    edit_fields, edit_layout, edit_handlers and word_maps: what the page of edits has beside these

Only the layouts, the handlers and ``server`` import gradio; ``server`` only when it builds a page.
"""
