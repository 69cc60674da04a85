"""Errors as DALI 2.4 words them, read."""

import pytest

from pipelines.dali.error import read_error

HEAD = """Critical error in pipeline:
Critical error in pipeline:
Error in {backend} operator `nvidia.dali.{operator}`,
which was used in the pipeline definition with the following traceback:

  File "dali_graph.py", line 18, in _decoded
    image = fn.decoders.image(encoded, device="mixed")

encountered:

"""
TAIL = "Current pipeline object is no longer valid.\nCurrent pipeline object is no longer valid."


@pytest.mark.parametrize(
    ("backend", "operator", "message", "expected"),
    [
        ("MIXED", "fn.decoders.image", "Failed to decode sample #12 : \n", ("Failed to decode sample #12", 12, True)),
        ("CPU", "fn.decoders.image_slice", "nvImageCodec failure: '#4'\n", ("nvImageCodec failure: '#4'", None, True)),
        (
            "GPU",
            "fn.sequence_rearrange",
            "new_order[0] must be between 0 and 4\nfor sample 7, but it is: 9.\nC++ context: [/opt/x.cc:48] \n",
            ("new_order[0] must be between 0 and 4 for sample 7, but it is: 9.", 7, False),
        ),
        (
            "GPU",
            "fn.resize",
            "CUDA allocation failed\nRequested: 3221225472\nC++ context: [/opt/y.cc:9] \n",
            ("CUDA allocation failed Requested: 3221225472", None, False),
        ),
    ],
)
def test_operator_cause_and_sample(
    backend: str, operator: str, message: str, expected: tuple[str, int | None, bool]
) -> None:
    found = read_error(HEAD.format(backend=backend, operator=operator) + message + TAIL)
    assert (found.cause, found.row, found.decoding) == expected
    assert found.operator == operator


def test_an_error_of_another_form_is_told_as_it_is() -> None:
    assert read_error("Critical error in pipeline:\nCUDA driver\nis gone") == (
        "its pipeline",
        "CUDA driver is gone",
        None,
    )
    assert read_error("").cause == "it does not say why"
