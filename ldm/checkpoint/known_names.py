"""The names in training checkpoints' pickles that are known to be harmless ballast.

Nothing here is imported or called: ``unpickle`` puts placeholders in place of these names. The
table is what ``python tests/pickled_names.py`` prints, merged over numpy 1.24, 1.26, 2.4 and 2.5,
OmegaConf 2.0, 2.1 and 2.4, Lightning 2.6, Python 3.8 to 3.13; torch's rarer kinds of tensor are
added. Names are those of Python 3.
"""

from __future__ import annotations

import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING

_PLAIN = ("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list")
_PLAIN += ("object", "range", "set", "slice", "str", "tuple")
_SCALARS = ("bool", "bool_", "bytes_", "clongdouble", "complex128", "complex256", "complex64")
_SCALARS += ("datetime64", "float128", "float16", "float32", "float64", "int16", "int32", "int64")
_SCALARS += ("int8", "longdouble", "longlong", "object_", "str_", "timedelta64", "uint16", "uint32")
_SCALARS += ("uint64", "uint8", "ulonglong", "void", "record")
_ABSTRACT = ("character", "complexfloating", "flexible", "floating", "generic", "inexact")
_ABSTRACT += ("integer", "number", "signedinteger", "unsignedinteger")
_TENSORS = ("nested", "qtensor", "sparse_csr", "sparse", "meta", "wrapper_subclass")
_FORMATS = ("torch.channels_last", "torch.contiguous_format", "torch.preserve_format")

KNOWN: dict[str, frozenset[str]] = {
    module: frozenset(names)
    for modules, names in (
        (("builtins",), _PLAIN),
        (("collections",), ("ChainMap", "Counter", "UserDict", "UserList", "defaultdict", "deque")),
        (("argparse",), ("Namespace",)),
        (("types",), ("SimpleNamespace", "GenericAlias", "UnionType")),
        (("datetime",), ("date", "datetime", "time", "timedelta", "timezone")),
        (("decimal",), ("Decimal",)),
        (("fractions",), ("Fraction",)),
        (("uuid",), ("UUID",)),
        (("re",), ("_compile", "Pattern")),
        (("random",), ("Random",)),
        (("time",), ("struct_time",)),
        (("array",), ("_array_reconstructor", "array")),
        (("logging",), ("getLogger",)),
        (("copyreg",), ("_reconstructor",)),
        (("_codecs",), ("encode",)),
        (("fsspec.spec",), ("make_instance",)),
        # A default in Namespaces of Lightning 1.0 and 1.1.
        (("pytorch_lightning.utilities.argparse",), ("_gpus_arg_default",)),
        (("pytorch_lightning.utilities.argparse_utils",), ("_gpus_arg_default",)),
        (("numpy",), (*_SCALARS, *_ABSTRACT, "dtype", "ndarray", "matrix", "recarray")),
        (("numpy.rec",), ("recarray",)),
        (("numpy.core", "numpy._core"), ("_DType_reconstruct",)),
        (("numpy.core.multiarray", "numpy._core.multiarray"), ("scalar", "_reconstruct")),
        (("numpy.core.numeric", "numpy._core.numeric"), ("_frombuffer",)),
        (("numpy.ma.core",), ("_mareconstruct",)),
        (
            ("numpy.random._pickle",),
            ("__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor"),
        ),
        (("numpy.random.bit_generator",), ("__pyx_unpickle_SeedSequence",)),
        (("torch",), ("Tensor", "device", "per_channel_affine", "per_tensor_affine")),
        (("torch.nn.parameter",), ("Buffer", "Parameter")),
        (("torch.serialization",), ("_get_layout",)),
        (("torch._utils",), (*(f"_rebuild_{kind}_tensor" for kind in _TENSORS), *_FORMATS)),
    )
    for module in modules
}

# Of these every class may be named and made: a class is recognised by its capital letter.
_PACKAGES = frozenset(
    {"lightning", "lightning_fabric", "lightning_utilities", "omegaconf", "pytorch_lightning"}
)
_STANDARD = frozenset({"collections.abc", "enum", "numbers", "pathlib", "pathlib._local", "typing"})
_STANDARD |= {"builtins"}  # where exceptions alone have a capital letter, and Ellipsis
# Of these a class may be named, as a choice in hyperparameters, and restored from its state.
_TORCH = ("torch.nn.", "torch.optim.", "torch.utils.data.", "torch.distributions.")


def python3_name(module: str, name: str) -> tuple[str, str]:
    """Return the name of Python 3 for one of Python 2, as pickles up to protocol 2 write them.

    >>> python3_name("__builtin__", "xrange")
    ('builtins', 'range')
    """
    if (module, name) in NAME_MAPPING:
        return NAME_MAPPING[module, name]
    return IMPORT_MAPPING.get(module, module), name


def may_be_made(module: str, name: str) -> bool:
    """Check whether a pickle may name something and also call it with arguments.

    True for what the table holds and for the classes of packages outside the standard library,
    which are a user's own (an enum in hyperparameters). A dotted name walks attributes
    (``pathlib`` + ``os.system``), so it is never harmless unless the table holds it.
    """
    if name in KNOWN.get(module, ()):
        return True
    if not _is_class(name):
        return False
    package = module.partition(".")[0]
    if module in _STANDARD or package in _PACKAGES:
        return True
    # What only begins like a known package imitates it.
    imitates = package.startswith(tuple(_PACKAGES))
    return not (imitates or package == "torch" or package in sys.stdlib_module_names)


def may_be_named(module: str, name: str) -> bool:
    """Check whether a pickle may name something as a value, or restore it from its state."""
    chosen = f"{module}.".startswith(_TORCH) or module in ("abc", "torch.torch_version")
    return may_be_made(module, name) or (_is_class(name) and chosen)


def _is_class(name: str) -> bool:
    """Check whether a name looks like a class's, or a class within a class."""
    parts = name.split(".")
    return all(part.isidentifier() and part.lstrip("_")[:1].isupper() for part in parts)
