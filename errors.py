"""Errors that edgeroof raises on purpose.

Each message says what happened and what to do about it. Only the command line prints; it turns any of these into one
line and the exit code of the class.
"""

from __future__ import annotations


class EdgeroofError(Exception):
    """Base of every error a user can cause or fix."""

    exit_code = 1


class UsageError(EdgeroofError):
    """A value the user gave makes no sense: an unknown name, a number out of range."""

    exit_code = 2


class DeviceError(EdgeroofError):
    """A device is unknown, absent, or its description is wrong."""


class CalibrationError(EdgeroofError):
    """The roofs of this machine could not be measured."""


class TraceError(EdgeroofError):
    """A trace cannot be read, or is not a Kineto trace."""


class CounterError(EdgeroofError):
    """A file of hardware counters cannot be read, or does not belong to the run."""


class WorkloadError(EdgeroofError):
    """A model, a data set or a training configuration cannot be built."""


class OutOfMemoryError(WorkloadError):
    """The step does not fit in the device's memory."""


class CaptureError(EdgeroofError):
    """A step could not be captured or its passes could not be aligned."""


class RunError(EdgeroofError):
    """A run folder is missing, damaged, or of another schema version."""


class UpdateError(EdgeroofError):
    """A model update cannot be read, or does not fit the model it is for."""


class FederatedError(EdgeroofError):
    """A round, its engine or its network cannot go on."""
