"""From a running step to a classified kernel table."""
