"""Suites of the A/B lab: what is compared, on which problems, and how each provider is checked."""
