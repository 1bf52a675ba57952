"""Energy meters, one file per source."""
