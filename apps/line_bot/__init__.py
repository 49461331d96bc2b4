"""A LINE account that draws what one writes to it."""
