"""How the kernels of this package are compiled: see `selfie_data.compiled`."""

from selfie_data.compiled import announce, kernel

__all__ = ["announce", "kernel"]
