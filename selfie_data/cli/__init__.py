"""The program `selfie-data`."""
