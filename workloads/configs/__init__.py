"""Model configurations that ship with edgeroof."""
