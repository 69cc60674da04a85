"""Arguments as they should be, or one line that says what they should be."""

import operator
from collections.abc import Sequence

import numpy as np

from pipelines.normalise import Normalisation


def whole_number(name: str, value: object) -> int:
    """Returns `value` as an int: NumPy's integers would stay in states, which then are neither JSON nor safe to load.

    Raises:
        ValueError: it is no whole number; True and 64.0 are none either.
    """
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]  # whether it has an index is the question
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None


def given_normalisation(value: Sequence[object]) -> Normalisation:
    """Returns (scale, bias) as float32 [3] each.

    Raises:
        ValueError: it is no pair of three finite numbers each.
    """
    try:
        scale, bias = (np.array(factors, np.float32) for factors in value)
    except (TypeError, ValueError):
        fits = False
    else:
        fits = scale.shape == bias.shape == (3,) and bool(np.isfinite([scale, bias]).all())
    if not fits:
        raise ValueError(
            f"normalisation must be (scale, bias), three finite numbers each, got {' '.join(repr(value).split())}"
        )
    return Normalisation(scale, bias)
