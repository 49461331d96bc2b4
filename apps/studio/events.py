"""How the page calls the server: past gradio's queue, and without signs of waiting."""

QUIET = {
    "queue": False,
    "show_progress": "hidden",
    "api_visibility": "private",
    "preprocess": False,
    "trigger_mode": "always_last",
}
"""What answers at once; its values are read by the project, not by gradio."""
IN_BROWSER = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""What a browser does by itself."""
