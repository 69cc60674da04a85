"""Pictures of the pretraining task: the image, what the encoder sees, the patches put back, where attention looks.

One puzzle is four panels, an SVG element with PNG pictures inside. Right and wrong answers differ by mark and word, not
only by colour.
"""

import base64
import io
from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipelines.batch import PatchBatch
from pipelines.sampling.grid import unpatchify
from selfie_model.network.selfie import Selfie

PANEL = 128  # pixels on the page
_GAP = 14
_CAPTION = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Puzzle:
    """One image, the model's answers and its attention.

    Attributes:
        sample_id: of the image.
        image: [H, W, 3] uint8; cells that are neither context nor target are grey.
        side: cells along an edge.
        hidden: the target cells, row-major.
        chosen: for each hidden cell the cell whose patch the model put there.
        confidence: for each hidden cell the probability of that choice, 0..1.
        attention: [side·side] float, what u0 gives to each cell, mean over the heads of the last block; 0 for cells
            that the encoder does not see. With u0's own share it sums to one.
    """

    sample_id: int
    image: NDArray[np.uint8]
    side: int
    hidden: tuple[int, ...]
    chosen: tuple[int, ...]
    confidence: tuple[float, ...]
    attention: NDArray[np.float32]

    @property
    def attention_range(self) -> tuple[float, float]:
        """The least and the most that u0 gives to a cell it sees."""
        seen = self.attention[self.attention > 0]
        return (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 0.0)

    @property
    def right(self) -> int:
        """Hidden cells that got their own patch."""
        return sum(place == cell for place, cell in zip(self.hidden, self.chosen, strict=True))


@torch.no_grad()
def solve(selfie: Selfie, batch: PatchBatch) -> list[Puzzle]:
    """Runs the model in eval mode over a batch of uint8 patches; returns one puzzle an image, in the batch's order.

    Raises:
        ValueError: the patches are not uint8 (a picture needs the pixels as they were).
    """
    if batch.patches.dtype != torch.uint8:
        raise ValueError(f"puzzles are drawn from uint8 patches, got {batch.patches.dtype}")
    was_training = selfie.training
    selfie.eval()
    probability = selfie(batch).logits.softmax(dim=2)
    context = selfie.embed_patches(batch)[:, : batch.context_count]
    seen = torch.zeros(context.shape[:2])  # [B, context]; without attention nothing is looked at more than the rest
    if selfie.attention_pooling.blocks:
        weights = selfie.attention_pooling.attention(selfie.sequence(context, batch.context_position))
        seen = weights[-1].mean(dim=1)[:, 0, 1:]
    selfie.train(was_training)
    cells = selfie.config.model.cells
    attention = torch.zeros(len(batch), cells).scatter_(1, batch.context_position.cpu(), seen.float().cpu())
    images = assemble(batch, side=selfie.config.model.side)
    confidence, answer = probability.cpu().max(dim=2)
    chosen = batch.target_position.cpu().gather(1, answer)
    return [
        Puzzle(
            sample_id=int(batch.sample_id[row]),
            image=images[row],
            side=selfie.config.model.side,
            hidden=tuple(batch.target_position[row].tolist()),
            chosen=tuple(chosen[row].tolist()),
            confidence=tuple(confidence[row].tolist()),
            attention=attention[row].numpy(),
        )
        for row in range(len(batch))
    ]


def assemble(batch: PatchBatch, *, side: int) -> NDArray[np.uint8]:
    """Returns the whole images [B, H, W, 3] of a batch of uint8 patches; cells without a patch are grey."""
    patches, position = batch.patches.cpu().numpy(), batch.position.cpu().numpy()
    count, size = len(patches), patches.shape[2]
    grid = np.full((count, side * side, size, size, 3), 128, dtype=np.uint8)
    rows = np.arange(count)[:, None]
    # With masking `zero` the context covers the whole grid, hidden cells included: targets go last and win.
    grid[rows, position[:, : batch.context_count]] = patches[:, : batch.context_count]
    grid[rows, position[:, batch.context_count :]] = patches[:, batch.context_count :]
    return unpatchify(grid)


def choose(puzzles: list[Puzzle], *, right: int, wrong: int) -> list[Puzzle]:
    """Returns the first `right` puzzles without a mistake, then the first `wrong` with one or more."""
    clean = [puzzle for puzzle in puzzles if puzzle.right == len(puzzle.hidden)]
    faulty = [puzzle for puzzle in puzzles if puzzle.right < len(puzzle.hidden)]
    return clean[:right] + faulty[:wrong]


def draw(puzzle: Puzzle) -> str:
    """Returns the four panels as one SVG element: image, as seen, as put back, attention."""
    size = PANEL / puzzle.side
    seen, filled = puzzle.image.copy(), puzzle.image.copy()
    for place, cell in zip(puzzle.hidden, puzzle.chosen, strict=True):
        _patch(seen, place, puzzle.side)[:] = 128
        _patch(filled, place, puzzle.side)[:] = _patch(puzzle.image, cell, puzzle.side)
    marks = "".join(_mark(puzzle, index, size) for index in range(len(puzzle.hidden)))
    shade = "".join(_shade(puzzle, cell, size) for cell in range(puzzle.side**2))
    covers = "".join(_cover(cell, puzzle.side, size) for cell in puzzle.hidden)
    panels = (
        ("the image", puzzle.image, ""),
        ("what it sees", seen, covers),
        (f"put back: {puzzle.right} of {len(puzzle.hidden)} right", filled, marks),
        (_attention_caption(puzzle), puzzle.image, shade),
    )
    # A gap behind the last panel too: its caption is the longest, and what leaves the view is cut off.
    width, height = 4 * (PANEL + _GAP), PANEL + _CAPTION
    body = "".join(_panel(index, *panel) for index, panel in enumerate(panels))
    spoken = (
        f"Image {puzzle.sample_id}: {puzzle.right} of {len(puzzle.hidden)} hidden patches put back into their place."
    )
    return (
        f'<svg class="puzzle" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'font-family="system-ui,sans-serif" font-size="11.5"><title>{escape(spoken)}</title>{body}</svg>'
    )


def png_uri(image: NDArray[np.uint8]) -> str:
    """Returns an image [H, W, 3] uint8 as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _panel(index: int, caption: str, image: NDArray[np.uint8], overlay: str) -> str:
    return (
        f'<g transform="translate({index * (PANEL + _GAP)} 0)">'
        f'<image href="{png_uri(image)}" width="{PANEL}" height="{PANEL}" style="image-rendering:pixelated"/>{overlay}'
        f'<text x="0" y="{PANEL + 14}" fill="var(--soft,#5b6675)">{escape(caption)}</text></g>'
    )


def _mark(puzzle: Puzzle, index: int, size: float) -> str:
    """Frame and tick or cross of one answer."""
    place, cell = puzzle.hidden[index], puzzle.chosen[index]
    x, y = place % puzzle.side * size, place // puzzle.side * size
    good = place == cell
    tint, sign = ("#22b07d", "✓") if good else ("#f0642f", "✗")
    word = "right" if good else f"wrong, this patch belongs to row {cell // puzzle.side}, column {cell % puzzle.side}"
    badge = min(13.0, size * 0.5)
    return (
        f"<g><title>{word}; confidence {100 * puzzle.confidence[index]:.0f} %</title>"
        f'<rect x="{x + 1:.1f}" y="{y + 1:.1f}" width="{size - 2:.1f}" height="{size - 2:.1f}" fill="none" '
        f'stroke="{tint}" stroke-width="2"/>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{badge:.1f}" height="{badge:.1f}" fill="{tint}"/>'
        f'<text x="{x + badge / 2:.1f}" y="{y + badge * 0.82:.1f}" font-size="{badge * 0.85:.1f}" font-weight="700" '
        f'text-anchor="middle" fill="#0b0f14">{sign}</text></g>'
    )


def _cover(cell: int, side: int, size: float) -> str:
    x, y = cell % side * size, cell // side * size
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{size:.1f}" height="{size:.1f}" '
        'fill="var(--panel,#eceff3)" stroke="var(--soft,#5b6675)" stroke-width="0.8" stroke-dasharray="3 2"/>'
    )


def _shade(puzzle: Puzzle, cell: int, size: float) -> str:
    """Darkens a cell the more, the less u0 looks at it; the cell looked at most stays as it is."""
    x, y = cell % puzzle.side * size, cell // puzzle.side * size
    if puzzle.attention[cell] == 0:
        return _cover(cell, puzzle.side, size)
    low, high = puzzle.attention_range
    share = (float(puzzle.attention[cell]) - low) / max(high - low, 1e-9)
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{size:.1f}" height="{size:.1f}" fill="#000" '
        f'fill-opacity="{0.8 * (1 - share):.2f}"><title>{100 * float(puzzle.attention[cell]):.1f} %</title></rect>'
    )


def _attention_caption(puzzle: Puzzle) -> str:
    low, high = puzzle.attention_range
    return f"attention {100 * low:.1f}…{100 * high:.1f} %"


def _patch(image: NDArray[np.uint8], cell: int, side: int) -> NDArray[np.uint8]:
    """A view of one cell."""
    size = image.shape[0] // side
    top, left = cell // side * size, cell % side * size
    return image[top : top + size, left : left + size]
