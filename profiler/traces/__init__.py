"""Kineto traces: read, linked, attributed, and priced from the shapes they recorded."""
