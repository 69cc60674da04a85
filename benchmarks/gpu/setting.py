"""What a section is told."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a section is told.

    Attributes:
        device: `cuda` or, in a dry run, `cpu`.
        dry: tiny sizes; the numbers mean nothing.
        seconds: its limit; it should end by itself before that.
        threads: CPU cores for decoding.
        batches: how many batches of the decoder stress.
        scratch: prepared data, never recorded.
        images: folder of real archives, or None.
        options: what sets this section apart from others of its module.
    """

    device: str
    dry: bool
    seconds: float
    threads: int
    batches: int
    scratch: str
    images: str | None
    options: dict[str, Any] = field(default_factory=dict)

    def size(self, full: int, tiny: int) -> int:
        """`full` on a GPU, `tiny` in a dry run."""
        return tiny if self.dry else full

    @property
    def window_s(self) -> float:
        """How long one measured run takes."""
        return 0.05 if self.dry else 1.0
