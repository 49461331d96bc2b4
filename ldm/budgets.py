"""How much of memory and time a file or a visitor may claim: every limit, in one place.

A limit is far above what honest files need (the numbers behind each are in its comment) and far
below what a machine has. Whoever meets one is told by a ``UserError`` that names it.
"""

from __future__ import annotations

# Pickles: Stable Diffusion with its average and its optimizer's state has some 300,000 opcodes in
# 3 MB, and names two dozen globals.
PICKLE_BYTES = 2**25
PICKLE_OPCODES = 2_000_000
PICKLE_GLOBALS = 10_000
PICKLE_INTEGER = 64  # bytes of one integer
PICKLE_DEPTH = 32  # of containers within containers, where one is walked

# Files of tensors: an honest zip is stored, or compressed by a tenth.
ZIP_DIRECTORY = 2**25  # bytes; a record of a tensor takes about 80
ZIP_RATIO = 32  # unpacked bytes for each byte of the file
SAFETENSORS_HEADER = 2**25  # bytes; Stable Diffusion's has 150,000
CLAIMED_RATIO = 16  # bytes of all tensors together for each byte of the file: weights may be tied

# Texts in pictures: a long recipe has 5,000 characters, a ComfyUI graph 100,000.
RECIPE_LENGTH = 2**20  # characters
RECIPE_DEPTH = 64  # of brackets within brackets
RECIPE_ENTRIES = 1_000  # settings; programs with many extensions write 60

# Pictures: cameras make up to 60 megapixels, 350 MB where nothing is compressed.
PIXELS = 64_000_000  # --max_pixels
PICTURE_BYTES = 2**30
PNG_CHUNKS = 10_000  # and one for each KB of the file; its pixels stand in chunks of 8 KB and more

# Messages: a quoted name or value; a whole line.
QUOTED = 200  # characters
MESSAGE = 2_000
