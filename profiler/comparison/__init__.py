"""Runs beside each other: where the time of each goes, kernels matched, and what explains the difference."""
