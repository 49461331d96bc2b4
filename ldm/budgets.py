"""How much of memory and time a file or a visitor may claim: every limit, in one place.

A limit is far above what honest files need (the numbers behind each are in its comment) and far
below what a machine has. Whoever meets one is told by a ``UserError`` that names it.
"""

from __future__ import annotations

# Pickles: Stable Diffusion with its average and its optimizer's state has some 300,000 opcodes in
# 3 MB, and names two dozen globals.
PICKLE_BYTES = 2**25
PICKLE_OPCODES = 1_000_000
PICKLE_GLOBALS = 10_000
PICKLE_INTEGER = 64  # bytes of one integer
PICKLE_KEY = 4096  # characters of one key
PICKLE_DEPTH = 32  # of containers within containers, where one is walked
PICKLE_ENTRIES = 1_000_000  # of dicts that are searched for the one with the weights

# Files of tensors: an honest zip is stored, or compressed by a tenth.
ZIP_DIRECTORY = 2**25  # bytes; a record of a tensor takes about 80
ZIP_RATIO = 32  # unpacked bytes for each byte of the file
SAFETENSORS_HEADER = 2**24  # bytes; Stable Diffusion's has 150,000, a LoRA's notes a few million
SAFETENSORS_TENSORS = 50_000  # Stable Diffusion with its average has 1,800
CLAIMED_RATIO = 16  # bytes of all tensors together for each byte of the file: weights may be tied

# Texts in pictures: a long recipe has 5,000 characters, a ComfyUI graph 100,000.
RECIPE_LENGTH = 2**20  # characters
RECIPE_DEPTH = 64  # of brackets within brackets
RECIPE_ENTRIES = 1_000  # settings; programs with many extensions write 60

# Pictures: cameras make up to 60 megapixels, 350 MB where nothing is compressed.
PIXELS = 64_000_000  # --max_pixels
PICTURE_BYTES = 2**30
PNG_CHUNKS = 10_000  # and one for each KB of the file; its pixels stand in chunks of 8 KB and more

# Prompts with a grammar: long ones have 2,000 letters in 4 rows of tokens.
PROMPT_LETTERS = 100_000
PROMPT_NESTING = 100  # brackets that are open at a time
PROMPT_ROWS = 64  # of 75 tokens each, that one picture is drawn from

# Wildcards: collections that people share have 2,000 lists, the longest of 30,000 lines in 1 MB,
# and name one another over three levels.
WILDCARD_LISTS = 20_000  # files below one folder
WILDCARD_BYTES = 2**25  # of one list
WILDCARD_DEPTH = 20  # lists or braces within one another
WILDCARD_DRAWS = 100_000  # options that are looked at for one prompt: a quarter of a second

# Messages: a quoted name or value; a whole line.
QUOTED = 200  # characters
MESSAGE = 2_000

# Configurations: the longest that ship have 8,000 characters, 250 nodes and 9 levels; a list of
# ImageNet's class names has 30,000 characters. PyYAML and OmegaConf
# take a millisecond for a node.
CONFIG_BYTES = 2**18
CONFIG_NODES = 4_000  # mappings, lists and values, those that aliases repeat included
CONFIG_DEPTH = 32  # of mappings and lists within one another
CONFIG_DIGITS = 64  # of one number
CONFIG_LENGTH = 2**20  # characters of all texts once references are put in
# What a configuration that comes with a model may ask for: widths, tokens, steps; and how many
# tensors its layers make (Stable Diffusion 1,130, SDXL some 2,600), of how many bytes where a
# fork's constructor needs them in memory.
CONFIG_NUMBER = 10**6
MODEL_LEVELS = 16  # that halve the sides
MODEL_SIDE = 4096  # pixels
MODEL_TENSORS = 6_000
MODEL_BYTES = 2**35
TOKENIZER_BYTES = 2**26  # a vocabulary of 250,000 pieces has 5 MB, or 17 MB as JSON
JSON_BYTES = 2**22  # a file of a diffusers folder; the longest index of shards has 200,000

# Downloads: the largest file here has 7.7 GB; a slow line brings 5,000 bytes a second.
DOWNLOAD_BYTES = 2**36
DOWNLOAD_RATE = 1_000  # bytes a second
DOWNLOAD_WINDOW = 60.0  # seconds over which they are counted
REDIRECTS = 10

# Visitors of the web pages; what a run may ask for is chosen by the pages' flags.
REQUEST = 2**16  # bytes of one call, its prompts apart
OPEN_REQUESTS = 200  # of one address at a time; a page in a browser keeps two open
BODY_SECONDS = 300  # in which a request has to arrive whole
UPLOADED_FILES = 8  # in one request; a picture, what is painted on it, both together, a mask
UPLOADS = 2**30  # bytes of all uploads that are kept; the oldest go first
RUNS_OF_ONE = 3  # runs of one address, drawn or waiting
PROMPT_PARTS = 32  # texts of one prompt with weights, each of which is encoded, or drawn

# The server of apps/server: requests that are open at a time, and their bodies together. A picture
# of 8 MB is 11 MB as base64.
SERVER_REQUESTS = 2_000
SERVER_BODIES = 2**28  # bytes
JSON_DEPTH = 32  # of lists and objects within one another
JSON_PARTS = 100_000  # values of a body, each of which takes 60 bytes or more once it is read

# What a run may write beside its pictures unless it is told to write less: Stable Diffusion's maps
# of 50 steps take 0.4 GB for a picture at 512 pixels.
ATTENTION_MAPS = 2 * 10**9  # bytes; --every and --half make them fewer
