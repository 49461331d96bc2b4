"""The types of numbers that torch files hold, by name, and their sizes. No torch."""

from __future__ import annotations

# Bytes of one number; None for those that no plain tensor has.
ELEMENT_TYPES: dict[str, int | None] = {
    **dict.fromkeys(("float64", "int64", "uint64", "complex64", "double", "long", "cfloat"), 8),
    **dict.fromkeys(("float32", "int32", "uint32", "complex32", "float", "int", "chalf"), 4),
    "bcomplex32": 4,
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16", "half", "short"), 2),
    **dict.fromkeys(("uint8", "int8", "bool"), 1),
    **dict.fromkeys(("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"), 1),
    **dict.fromkeys(("float8_e8m0fnu",), 1),
    **dict.fromkeys(("complex128", "cdouble"), 16),
    **dict.fromkeys(("qint8", "qint32", "quint8", "quint4x2", "quint2x4", "float4_e2m1fn_x2")),
    **dict.fromkeys(("bit", "bits1x8", "bits2x4", "bits4x2", "bits8", "bits16")),
    **{f"{sign}int{bits}": None for sign in ("", "u") for bits in range(1, 8)},
}

# Storages' classes and the numbers in them. Those of quantised numbers are described as bytes:
# weights that need a scale beside them are no plain tensors, and are left out.
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
    "_UntypedStorage": "uint8",
    "QInt8Storage": "int8",
    "QInt32Storage": "int32",
    "QUInt8Storage": "uint8",
    "QUInt4x2Storage": "uint8",
    "QUInt2x4Storage": "uint8",
}
