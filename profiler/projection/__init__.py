"""Projected times on a device that is not there; see ``docs/projection.md``."""

from .carry import carry_over
from .coefficients import Coefficients, ErrorBand, load_coefficients
from .hardware import Hardware, describe_hardware
from .projector import Projection, Projector, StepProjection

__all__ = [
    "Coefficients",
    "ErrorBand",
    "Hardware",
    "Projection",
    "Projector",
    "StepProjection",
    "carry_over",
    "describe_hardware",
    "load_coefficients",
]
