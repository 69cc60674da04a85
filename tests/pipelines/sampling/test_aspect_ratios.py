"""The table of aspect ratios."""

import pytest

from pipelines.sampling.aspect_ratios import ASPECT_RATIOS, HIGHEST, LOWEST


def test_the_table_of_ratios_is_log_uniform() -> None:
    for index, ratio in enumerate(ASPECT_RATIOS):
        assert ratio == pytest.approx(LOWEST * (HIGHEST / LOWEST) ** ((index + 0.5) / 64), rel=1e-14)
    assert len(ASPECT_RATIOS) == 64
