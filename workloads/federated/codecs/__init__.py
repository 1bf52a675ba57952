"""Compression of updates: reducers decide which numbers travel, quantisers in how many bits.

A codec is named ``reducer+quantiser``, such as ``topk:0.01+int8``, ``lowrank:4+fp16`` or just ``int8``; see
:func:`parse_codec`.
"""

from .codec import Codec, Compressor, parse_codec
from .quantisers import QUANTISERS
from .reducers import REDUCERS

__all__ = ["QUANTISERS", "REDUCERS", "Codec", "Compressor", "parse_codec"]
