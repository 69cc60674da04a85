"""What becomes of a dataset that is there."""
