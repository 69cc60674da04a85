"""Bytes become floats of mean 0 and deviation 1."""

import numpy as np
import pytest

from pipelines.normalise import from_statistics, normalise
from tests.pipelines.conftest import random_images


def test_normalised_pixels_have_mean_0_and_deviation_1() -> None:
    images = random_images(40)
    pixels = images.reshape(-1, 3).astype(np.float64)
    result = normalise(images, from_statistics(pixels.mean(0), pixels.std(0))).reshape(-1, 3)
    assert result.dtype == np.float32
    assert np.abs(result.mean(0)).max() < 1e-4
    assert np.abs(result.std(0) - 1).max() < 1e-4


def test_a_constant_channel_is_centred_only() -> None:
    scale, bias = from_statistics((7, 0, 255), (0, 1, 2))
    assert scale.tolist() == [1, 1, 0.5]
    assert bias.tolist() == [-7, 0, -127.5]
    with pytest.raises(ValueError, match="three numbers each"):
        from_statistics((1, 2), (1, 2))
