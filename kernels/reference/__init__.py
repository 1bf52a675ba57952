"""Truth in float64: what every kernel of an operation must compute, for tests and A/B suites alike."""

from .adafactor import AdafactorState, adafactor_reference
from .adamw import AdamWState, adamw_reference
from .attention import attention_reference, position_bias_reference
from .cross_entropy import cross_entropy_reference, linear_cross_entropy_reference
from .gated_gelu import gated_gelu_reference
from .rms_norm import add_rms_norm_reference, rms_norm_reference
from .softmax import softmax_reference

__all__ = [
    "AdafactorState",
    "AdamWState",
    "adafactor_reference",
    "adamw_reference",
    "add_rms_norm_reference",
    "attention_reference",
    "cross_entropy_reference",
    "gated_gelu_reference",
    "linear_cross_entropy_reference",
    "position_bias_reference",
    "rms_norm_reference",
    "softmax_reference",
]
