"""Arguments as they should be, or one line that says what they should be."""

import numpy as np
import pytest

from pipelines.arguments import given_normalisation, whole_number


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)], ids=repr)
def test_whole_numbers_become_ints_of_pythons_own(value: object) -> None:
    number = whole_number("seed", value)
    assert number == 3
    assert type(number) is int


@pytest.mark.parametrize("value", [True, np.bool_(True), 3.0, np.float32(3), "3", None], ids=repr)
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="seed must be a whole number, got"):
        whole_number("seed", value)


def test_a_normalisation_may_be_any_three_numbers_twice() -> None:
    scale, bias = given_normalisation(([1, 2, 3], np.zeros(3)))
    assert (scale.dtype, scale.tolist()) == (np.float32, [1, 2, 3])
    assert (bias.dtype, bias.tolist()) == (np.float32, [0, 0, 0])


@pytest.mark.parametrize(
    "value", [1, ([1, 2], [1, 2]), ([1, 2, 3],), ([1, 2, 3], [0, 0, float("inf")]), "ab"], ids=repr
)
def test_what_is_no_normalisation_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(ValueError, match="three finite numbers each, got") as error:
        given_normalisation(value)
    assert "\n" not in str(error.value)
