"""Projected times on a device that is not there; see ``docs/projection.md``."""

from .carry import carry_over
from .coefficients import Coefficients, ErrorBand, load_coefficients
from .hardware import Hardware, describe_hardware
from .host_timer import host_phases, host_us_of
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
    "host_phases",
    "host_us_of",
    "load_coefficients",
]
