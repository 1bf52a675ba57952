"""How T5's modules compute when they are fused; :mod:`edgeroof.kernels.patch` puts it into a model."""
