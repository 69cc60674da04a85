"""The commands of `selfie-data`, one a file."""
