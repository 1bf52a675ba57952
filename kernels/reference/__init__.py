"""Truth in float64: what every kernel of an operation must compute, for tests and A/B suites alike."""

from .adafactor import AdafactorState, adafactor_reference
from .adamw import AdamWState, adamw_reference

__all__ = ["AdafactorState", "AdamWState", "adafactor_reference", "adamw_reference"]
