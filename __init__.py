"""edgeroof: kernel-level roofline profiling for fine-tuning language models on edge devices."""

__version__ = "0.1.0"
