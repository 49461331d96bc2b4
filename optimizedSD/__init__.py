"""Programs for small devices, and the optimizedSD fork's public names as views of ``ldm``."""
