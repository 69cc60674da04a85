"""Versions of everything that stored bytes depend on; a build is not resumed under others."""

import importlib.metadata

from PIL import features

# of `decode`, `resize`, `encode`, `jpeg_restarts`, `shard` and `statistics`: raised when any of them writes other bytes
_ENCODER = 1


def codec_versions() -> dict[str, str]:
    """Returns name -> version."""
    return {
        "encoder": str(_ENCODER),
        "pillow": importlib.metadata.version("pillow"),
        "pillow-libjpeg-turbo": str(features.version("libjpeg_turbo")),
        "pillow-zlib": str(features.version("zlib")),
        "simplejpeg": importlib.metadata.version("simplejpeg"),
        "zarr": importlib.metadata.version("zarr"),
    }
