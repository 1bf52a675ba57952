"""Optimizers whose step is one pass over memory."""
