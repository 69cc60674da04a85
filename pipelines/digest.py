"""What a batch holds, as two numbers that add up over the slices of a global batch: are two streams the same?

A sample's digest is a hash of its id, or of its rows of all tensors; a batch's is their sum modulo 2^48. So it does not
depend on how many ranks there are, on which of them has which sample, or on their order in the batch. The sums of up to
32,768 ranks fit into an int64.
"""

from dataclasses import fields
from hashlib import blake2b
from typing import NamedTuple, Self

import torch
from torch import Tensor

from pipelines.batch import ImageBatch, PatchBatch

_BYTES = 6
_MODULUS = 1 << 8 * _BYTES


class BatchDigest(NamedTuple):
    """Two numbers in [0, 2^48): of the sample ids, and of everything that the model is given."""

    ids: int
    tensors: int

    @classmethod
    def of(cls, batch: PatchBatch | ImageBatch) -> Self:
        """Returns the digest of a batch on any device; it is fetched, and hashed at about 1 GB/s."""
        rows = {entry.name: getattr(batch, entry.name) for entry in fields(batch)}
        every = {name: _bytes(rows[name]) for name in sorted(rows) if isinstance(rows[name], Tensor)}
        ids = every["sample_id"]
        return cls(
            ids=sum(_hash(ids[row]) for row in range(len(batch))) % _MODULUS,
            tensors=sum(_hash(*(rows[row] for rows in every.values())) for row in range(len(batch))) % _MODULUS,
        )

    @classmethod
    def total(cls, parts: Tensor) -> Self:
        """Returns the digest of a global batch from the sums, int64 [2], of its slices' numbers."""
        ids, tensors = parts.tolist()
        return cls(ids=ids % _MODULUS, tensors=tensors % _MODULUS)

    def hex(self) -> dict[str, str]:
        """Returns both as twelve digits."""
        return {name: f"{value:012x}" for name, value in self._asdict().items()}


def _bytes(tensor: Tensor) -> list[bytes]:
    """Returns every sample's bytes of a tensor [B, ...], its type and shape before them."""
    table = tensor.detach().cpu().contiguous().reshape(len(tensor), -1).view(torch.uint8).numpy()
    kind = f"{tensor.dtype}{list(tensor.shape[1:])}".encode()
    return [kind + row.tobytes() for row in table]


def _hash(*parts: bytes) -> int:
    hashed = blake2b(digest_size=_BYTES)
    for part in parts:
        hashed.update(part)
    return int.from_bytes(hashed.digest(), "little")
