"""Compiled loops over pixels, shared by the build and the loaders."""
