"""Compression of updates: reducers decide which numbers travel, quantisers in how many bits.

A codec is named ``reducer+quantiser``, such as ``topk:0.01+int8``, ``lowrank:4+fp16`` or just ``int8``; see
:func:`parse_codec`. ``docs/adding-a-codec.md`` adds one.
"""

from .codec import Codec, Compressor, parse_codec, register_quantiser, register_reducer
from .quantisers import QUANTISERS, Quantiser, expect
from .reducers import REDUCERS, Reducer

__all__ = [
    "QUANTISERS",
    "REDUCERS",
    "Codec",
    "Compressor",
    "Quantiser",
    "Reducer",
    "expect",
    "parse_codec",
    "register_quantiser",
    "register_reducer",
]
