"""The accuracies that the paper reports, to stand beside ours (arXiv 1906.02940, table of results).

Top-1 test accuracy in per cent, mean and standard deviation of five runs; the deviation is None where none is given.
"""

from typing import Final, NamedTuple


class Published(NamedTuple):
    """One entry of the paper's table.

    Attributes:
        mean: per cent.
        deviation: per cent; None where the paper gives none.
    """

    mean: float
    deviation: float | None


ARM_NAMES: Final = {"scratch": "supervised from scratch", "selfie": "Selfie, finetuned"}

# preset → (labelled share in per cent, supervised from scratch, Selfie), a row a column of the paper's table
_TABLE: Final[dict[str, tuple[tuple[float, Published, Published], ...]]] = {
    "cifar10": (
        (5, Published(75.9, 0.7), Published(75.9, 0.4)),
        (8, Published(79.3, 1.0), Published(80.3, 0.3)),
        (20, Published(88.3, 0.3), Published(89.1, 0.5)),
        (100, Published(95.5, 0.2), Published(95.7, 0.1)),
    ),
    "imagenet32": (
        (5, Published(13.1, 0.8), Published(18.3, 0.1)),
        (10, Published(25.9, 0.5), Published(30.2, 0.5)),
        (20, Published(32.7, 0.4), Published(33.5, None)),
        (100, Published(55.7, 0.6), Published(56.4, 0.6)),
    ),
    "imagenet224": (
        (5, Published(35.6, 0.7), Published(46.7, 0.4)),
        (10, Published(59.6, 0.2), Published(61.9, 0.2)),
        (20, Published(65.7, 0.2), Published(67.1, 0.2)),
        (100, Published(76.9, 0.2), Published(77.0, 0.1)),
    ),
}


def published(preset: str, arm: str, percent: float) -> Published | None:
    """Returns the paper's accuracy for a preset, an arm and a labelled share; None if it has none."""
    for share, scratch, selfie in _TABLE.get(preset, ()):
        if share == percent:
            return scratch if arm == "scratch" else selfie
    return None
