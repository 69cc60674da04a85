"""What DALI's errors say: which operator failed, why, and at which sample.

One of them, as DALI words it:

    Critical error in pipeline:
    Error in CPU operator `nvidia.dali.fn.decoders.image`,
    which was used in the pipeline definition with the following traceback:
      ...
    encountered:
    Failed to decode sample #2 :
    C++ context: ...
    Current pipeline object is no longer valid.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.batch_plan import BatchPlan
from selfie_data.dataset.opened import Dataset
from selfie_data.dataset.read import corrupt_sample, decode_payload
from selfie_data.errors import CorruptSampleError, DatasetError

_OPERATOR = re.compile(r"operator `(?:nvidia\.dali\.)?([\w.]+)`")
_CAUSE = re.compile(r"encountered:\s*(.+?)\s*(?=C\+\+ context|Current pipeline object|$)", re.DOTALL)
_SAMPLE = re.compile(r"sample #?(\d+)")
_FIRST = "Critical error in pipeline:"


class DaliError(NamedTuple):
    """An error of DALI's, read.

    Attributes:
        operator: that failed, as `fn.resize`; `its pipeline` where none is named.
        cause: what it met, in one line.
        row: of the batch's sample that it names, None if it names none.
    """

    operator: str
    cause: str
    row: int | None

    @property
    def decoding(self) -> bool:
        """Whether an image could not be decoded."""
        return "decoders" in self.operator


def read_error(text: str) -> DaliError:
    """Returns what the text of an error says."""
    operator, cause = _OPERATOR.search(text), _CAUSE.search(text)
    lines = (cause.group(1) if cause else text.replace(_FIRST, "")).split()
    found = " ".join(lines).rstrip(" :") or "it does not say why"
    row = _SAMPLE.search(found)
    return DaliError(operator.group(1) if operator else "its pipeline", found, int(row.group(1)) if row else None)


def explained(
    found: DaliError, dataset: Dataset, plan: BatchPlan, payload: Callable[[int], NDArray[np.uint8]]
) -> DatasetError:
    """Returns the error of the sample that cannot be decoded, or what else went wrong and where.

    Args:
        found: what DALI says.
        dataset: that was read.
        plan: that DALI worked on.
        payload: gives the encoded bytes of a row of the plan.
    """
    rows = range(len(plan)) if found.row is None else range(found.row, found.row + 1)
    for row in rows if found.decoding else ():  # the plain decoder says what is wrong with a sample, and with which
        try:
            decode_payload(dataset, int(plan.sample_id[row]), payload(row))
        except CorruptSampleError as error:
            return error
    if found.decoding and len(rows) == 1:
        return corrupt_sample(dataset, int(plan.sample_id[rows[0]]), f"DALI cannot decode it ({found.cause})")
    sample = "" if found.row is None else f", sample {dataset.key(int(plan.sample_id[found.row]))}"
    where = f"epoch {plan.epoch}, step {plan.step}{sample}"
    return DatasetError(f"DALI failed at {where}, in {found.operator} ({found.cause}); try backend='cpu'")
