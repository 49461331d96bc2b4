"""Which extra a missing package belongs to, for a program's last line."""

from __future__ import annotations

from types import TracebackType

from ldm.errors import UserError

BASE = ""  # what every installation has
NEEDED_FOR = {
    BASE: "every program",
    "train": "training and measuring pictures",
    "retrieval": "the search for neighbours",
    "diffusers": "drawing with the diffusers library",
    "web": "the pages of optimizedSD",
    "japanese": "text encoders that read Japanese",
    "line": "the LINE bot",
    "server": "the server",
    "scale": "object stores and Parquet files",
    "gcs": "Google Cloud Storage",
    "ray": "a Ray cluster",
    "notebooks": "the notebooks",
    "upscale": "networks that make pictures larger",
    "repair": "redrawing faces and ONNX files",
}
# Name in imports -> the extra of pyproject.toml that installs it.
EXTRA_OF = {
    "torch": BASE,
    "omegaconf": BASE,
    "yaml": BASE,
    "einops": BASE,
    "safetensors": BASE,
    "numpy": BASE,
    "PIL": BASE,
    "tqdm": BASE,
    "open_clip": BASE,
    "ftfy": BASE,
    "regex": BASE,
    "transformers": BASE,
    "imwatermark": BASE,
    "pytorch_lightning": BASE,
    "tensorboard": "train",
    "kornia": "train",
    "taming": "train",
    "webdataset": "train",
    "datasets": "train",
    "torchmetrics": "train",
    "torch_fidelity": "train",
    "faiss": "retrieval",
    "sklearn": "retrieval",
    "diffusers": "diffusers",
    "accelerate": "diffusers",
    "scipy": "diffusers",
    "gradio": "web",
    "starlette": "web",
    "sentencepiece": "japanese",
    "linebot": "line",
    "fastapi": "line",
    "uvicorn": "line",
    "httpx": "line",
    "pydantic": "line",
    "tomli": "line",
    "multipart": "server",
    "python_multipart": "server",
    "prometheus_client": "server",
    "fsspec": "scale",
    "s3fs": "scale",
    "pyarrow": "scale",
    "gcsfs": "gcs",
    "ray": "ray",
    "matplotlib": "notebooks",
    "ipykernel": "notebooks",
    "spandrel": "upscale",
    "skimage": "repair",
    "onnxruntime": "repair",
}


def missing_package(error: ImportError) -> str | None:
    """Return one line about the package whose import failed; None if it is not one of ours."""
    name = (error.name or "").split(".")[0]
    known = name if name in EXTRA_OF else _importer(error.__traceback__)
    if known is None:
        return None
    extra = EXTRA_OF[known]
    importer = "" if name in ("", known) else f", which {known} imports,"
    # An outer name is there if an inner one is looked for.
    absent = isinstance(error, ModuleNotFoundError) and error.name == name
    fault = "is not installed" if absent else f"cannot be imported ({' '.join(str(error).split())})"
    what = f".[{extra}]" if extra else "."
    return (
        f"the package {name or known}{importer} {fault}; it is needed for {NEEDED_FOR[extra]}; "
        f'run: pip install -e "{what}"'
    )


def explained(error: UserError) -> str:
    """Return a user's error with what to install, if a missing package caused it."""
    cause = error.__cause__
    if not isinstance(cause, ModuleNotFoundError) or "pip install" in str(error):
        return str(error)
    found = missing_package(cause)
    return str(error) if found is None else f"{error}; {found}"


def _importer(trace: TracebackType | None) -> str | None:
    """Return the innermost package of the table whose code was running."""
    found = None
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "").split(".")[0]
        found = name if name in EXTRA_OF else found
        trace = trace.tb_next
    return found
