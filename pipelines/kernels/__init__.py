"""The compiled loops of the CPU backends."""
