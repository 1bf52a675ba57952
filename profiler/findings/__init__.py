"""What a classified kernel table says: coverage, bounds, headroom, phases, the optimizer step, and the answer."""
