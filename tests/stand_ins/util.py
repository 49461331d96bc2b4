"""In place of ``ldm.util``: what CompVis's file defines, with its arguments and no others."""

import importlib
import inspect


def exists(x):
    return x is not None


def default(val, d):
    return val if val is not None else d() if inspect.isfunction(d) else d


def ismap(x):
    return getattr(x, "ndim", 0) == 4 and x.shape[1] > 3


def isimage(x):
    return getattr(x, "ndim", 0) == 4 and x.shape[1] in (1, 3)


def mean_flat(tensor):
    return tensor.flatten(1).mean(1)


def count_params(model, verbose=False):
    return sum(p.numel() for p in model.parameters())


def log_txt_as_img(wh, xc, size=10):
    raise NotImplementedError


def get_obj_from_str(string, reload=False):
    module, name = string.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def instantiate_from_config(config):
    if config in ("__is_first_stage__", "__is_unconditional__"):
        return None
    return get_obj_from_str(config["target"])(**config.get("params", {}))
