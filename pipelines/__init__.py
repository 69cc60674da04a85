"""Selfie, the device pipelines: shards become patch batches, a pure function of (seed, epoch, sample id).

    from pipelines import PatchLoader, ImageLoader

Importing this package imports neither torch nor DALI; the first use of a loader does.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.loader import ImageLoader, PatchLoader

__all__ = ["ImageLoader", "PatchLoader"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from pipelines import loader

        return getattr(loader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
