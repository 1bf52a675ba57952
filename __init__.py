"""edgeroof: kernel-level roofline profiling for fine-tuning language models on edge devices.

:func:`profile` runs a client's training step and classifies its kernels, :func:`analyze` does the same for any Kineto
trace, :func:`load` reads a run folder, :func:`devices` lists the devices with a description.
"""

from .api import analyze, devices, load, profile

__version__ = "0.1.0"

__all__ = ["analyze", "devices", "load", "profile"]
