"""Fused kernels, their references and baselines."""
