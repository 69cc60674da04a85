"""One Triton kernel for the patch gather: a program a patch row block, bytes in, bytes out, no intermediate."""

import torch
import triton
import triton.language as tl

_BLOCK_ROWS = 8  # rows of a patch a program copies


@triton.jit  # type: ignore[untyped-decorator]
def _gather(images, cells, out, size, side, patch, slots, width: tl.constexpr, rows: tl.constexpr):  # type: ignore[no-untyped-def]
    slot = tl.program_id(0)
    first = tl.program_id(1) * rows
    image = slot // slots
    cell = tl.load(cells + slot)
    row = first + tl.arange(0, rows)
    byte = tl.arange(0, width)
    live = (row[:, None] < patch) & (byte[None, :] < patch * 3)
    top = (cell // side) * patch + row
    source = image * size * size * 3 + top[:, None] * size * 3 + (cell % side) * patch * 3 + byte[None, :]
    target = (slot.to(tl.int64) * patch + row[:, None]) * patch * 3 + byte[None, :]
    tl.store(out + target, tl.load(images + source, mask=live), mask=live)


def gather_triton(images: torch.Tensor, cells: torch.Tensor, patch: int) -> torch.Tensor:
    """[B, S, S, 3] uint8 contiguous and [B, N] int64 -> [B, N, p, p, 3]."""
    count, slots = cells.shape
    size = images.shape[1]
    out = torch.empty(count, slots, patch, patch, 3, dtype=torch.uint8, device=images.device)
    grid = (count * slots, triton.cdiv(patch, _BLOCK_ROWS))
    width = triton.next_power_of_2(patch * 3)
    _gather[grid](images, cells, out, size, size // patch, patch, slots, width=width, rows=_BLOCK_ROWS)
    return out
