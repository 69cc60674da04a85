"""The contact sheet of `selfie-data preview`."""
