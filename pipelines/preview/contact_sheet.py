"""Contact sheets: what the model is shown of an image and what it is asked.

    caption
    +----------------+  +------------------+  hidden in ?
    |                |  | context | hidden |  [asked target]
    |  stored image  |  +---------+--------+  distractors
    |                |  | hidden ?|        |  [target] [target] [target]
    +----------------+  +------------------+

Drawing only: images, patches and cells come in as arrays (`command.py` reads and draws lots).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]
Colour = tuple[int, int, int]

PAPER: Colour = (250, 249, 246)
INK: Colour = (32, 36, 42)
FAINT: Colour = (112, 117, 125)
HIDDEN: Colour = (45, 50, 58)
HATCH: Colour = (66, 72, 82)
ASKED: Colour = (0, 158, 115)  # Okabe and Ito's palette: told apart by colour-blind readers too
DISTRACTOR: Colour = (230, 120, 0)

_MARGIN = 20
_GAP = 4  # between cells
_PANEL_GAP = 22
_LINE = 20
_DISTRACTORS_A_ROW = 4
_LARGEST_TILE = 56
_SMALLEST_TILE = 18  # a cell's number still fits
_PANEL = 280  # aimed at, px


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SheetEntry:
    """One image of a sheet.

    Attributes:
        caption: what is written above it.
        image: the whole image, uint8 [S, S, 3].
        patches: uint8 [N, p, p, 3], context first; of the image, or of an augmented view of it.
        cells: [N] the patches' cells in the grid.
        context_count: how many of them are context. The first target is the one asked for.
    """

    caption: str
    image: Pixels
    patches: Pixels
    cells: NDArray[np.int64]
    context_count: int


def draw_sheet(entries: Sequence[SheetEntry], *, side: int, title: str, subtitle: str, columns: int = 2) -> Image.Image:
    """Draws a contact sheet.

    Args:
        entries: at least one; all with as many patches.
        side: cells in a row of the grid.
        title: first line of the sheet.
        subtitle: second line.
        columns: entries beside each other.
    """
    tile = min(_LARGEST_TILE, max(_SMALLEST_TILE, _PANEL // side))
    targets = len(entries[0].cells) - entries[0].context_count
    width, height = _entry_size(side, tile, targets)
    columns = min(columns, len(entries))
    rows = -(-len(entries) // columns)
    head = _MARGIN + 4 * _LINE
    sheet = Image.new("RGB", (_MARGIN + columns * (width + _MARGIN), head + rows * (height + _MARGIN)), PAPER)
    pen = ImageDraw.Draw(sheet)
    _draw_head(pen, title, subtitle, room=sheet.width - 2 * _MARGIN)
    for number, entry in enumerate(entries):
        row, column = divmod(number, columns)
        _draw_entry(
            sheet, pen, entry, _MARGIN + column * (width + _MARGIN), head + row * (height + _MARGIN), side, tile
        )
    return sheet


def _entry_size(side: int, tile: int, targets: int) -> tuple[int, int]:
    grid = _extent(side, tile)
    rows = -(-(targets - 1) // _DISTRACTORS_A_ROW)
    answers = 2 * _LINE + _asked_size(tile) + _LINE + rows * (tile + _LINE)
    width = side * tile + grid + _extent(_DISTRACTORS_A_ROW, tile) + 2 * _PANEL_GAP
    return max(width, 480), _LINE + 6 + max(grid, answers)


def _extent(cells: int, tile: int) -> int:
    return cells * tile + (cells - 1) * _GAP


def _asked_size(tile: int) -> int:
    return tile + tile // 2


def _draw_head(pen: ImageDraw.ImageDraw, title: str, subtitle: str, *, room: int) -> None:
    pen.text((_MARGIN, _MARGIN - 6), fitted(pen, title, room, 20), fill=INK, font=font(20))
    pen.text((_MARGIN, _MARGIN + 20), fitted(pen, subtitle, room, 14), fill=FAINT, font=font(14))
    x, y = _MARGIN, _MARGIN + 2 * _LINE + 6
    for text, outline, hatched in (
        ("context: what the encoder sees", FAINT, False),
        ("hidden patch asked about, and the target that it is", ASKED, True),
        ("the other hidden patches: the distractors", DISTRACTOR, True),
    ):
        if x > _MARGIN and x + 22 + pen.textlength(text, font=font(14)) > _MARGIN + room:
            x, y = _MARGIN, y + _LINE
        if hatched:
            _draw_hidden(pen, (x, y, x + 15, y + 15), outline, 2)
        else:
            pen.rectangle((x, y, x + 15, y + 15), fill=(196, 203, 210), outline=outline)
        pen.text((x + 22, y + 8), text, fill=INK, font=font(14), anchor="lm")
        x += 22 + int(pen.textlength(text, font=font(14))) + 26


def _draw_entry(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, entry: SheetEntry, left: int, top: int, side: int, tile: int
) -> None:
    grid = _extent(side, tile)
    room = side * tile + 2 * _PANEL_GAP + grid + _extent(_DISTRACTORS_A_ROW, tile)
    pen.text((left, top), fitted(pen, entry.caption, room, 15), fill=INK, font=font(15))
    top += _LINE + 6
    picture = scaled(entry.image, side * tile)
    sheet.paste(picture, (left, top))
    for line in range(1, side):
        _draw_grid_line(sheet, left, top, line * tile, side * tile)
    _draw_cells(sheet, pen, entry, left + side * tile + _PANEL_GAP, top, side, tile)
    _draw_targets(sheet, pen, entry, left + side * tile + 2 * _PANEL_GAP + grid, top, tile)


def _draw_grid_line(sheet: Image.Image, left: int, top: int, offset: int, size: int) -> None:
    """Darkens and lightens alternate pixels, so that a line shows on any picture."""
    for along in range(size):
        colour = PAPER if along // 3 % 2 else HIDDEN
        sheet.putpixel((left + offset, top + along), colour)
        sheet.putpixel((left + along, top + offset), colour)


def _draw_cells(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, entry: SheetEntry, left: int, top: int, side: int, tile: int
) -> None:
    """The grid taken apart: context patches in their cells, hidden ones hatched with the numbers of theirs."""
    patch_at = dict(zip(entry.cells[: entry.context_count].tolist(), entry.patches, strict=False))
    targets = entry.cells[entry.context_count :].tolist()
    for cell in range(side * side):
        row, column = divmod(cell, side)
        x, y = left + column * (tile + _GAP), top + row * (tile + _GAP)
        if cell in patch_at:
            sheet.paste(scaled(patch_at[cell], tile), (x, y))
            continue
        box = (x, y, x + tile - 1, y + tile - 1)
        if cell not in targets:  # seen by nobody: a split that leaves cells out
            pen.rectangle(box, fill=PAPER, outline=FAINT)
            continue
        asked = cell == targets[0]
        _draw_hidden(pen, box, ASKED if asked else DISTRACTOR, 4 if asked else 2)
        size = max(10, min(18, tile * 2 // 5))
        pen.text((x + tile // 2, y + tile // 2), str(cell), fill=PAPER, font=font(size), anchor="mm")


def _draw_targets(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, entry: SheetEntry, left: int, top: int, tile: int
) -> None:
    """The target patches lined up: the asked one, then its distractors, each with the number of its cell."""
    cells = entry.cells[entry.context_count :].tolist()
    pictures = entry.patches[entry.context_count :]
    size = _asked_size(tile)
    pen.text((left, top - 3), f"hidden in {cells[0]}", fill=ASKED, font=font(14))
    _draw_target(sheet, pen, pictures[0], (left, top + _LINE, left + size - 1, top + _LINE + size - 1), ASKED, 4)
    y = top + _LINE + size + 10
    pen.text((left, y), "distractors" if len(cells) > 1 else "", fill=DISTRACTOR, font=font(14))
    y += _LINE + 2
    for number, (cell, picture) in enumerate(zip(cells[1:], pictures[1:], strict=True)):
        row, column = divmod(number, _DISTRACTORS_A_ROW)
        x, upper = left + column * (tile + _GAP), y + row * (tile + _LINE)
        _draw_target(sheet, pen, picture, (x, upper, x + tile - 1, upper + tile - 1), DISTRACTOR, 2)
        pen.text((x + tile // 2, upper + tile + 4), str(cell), fill=FAINT, font=font(12), anchor="mt")


def _draw_target(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, picture: Pixels, box: Box, colour: Colour, width: int
) -> None:
    """A patch with a frame around it, none of it covered."""
    sheet.paste(scaled(picture, box[2] - box[0] + 1), box[:2])
    pen.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), outline=colour, width=1)
    if width > 2:
        pen.rectangle((box[0] - 3, box[1] - 3, box[2] + 3, box[3] + 3), outline=colour, width=2)


def _draw_hidden(pen: ImageDraw.ImageDraw, box: Box, colour: Colour, width: int) -> None:
    left, top, right, bottom = box
    pen.rectangle(box, fill=HIDDEN)
    size = right - left
    for offset in range(-size, size, 7):
        start, stop = max(0, offset), min(size, size + offset)
        pen.line((left + start, top + start - offset, left + stop, top + stop - offset), fill=HATCH)
    pen.rectangle((left, top, right, bottom), outline=colour, width=width)


def scaled(pixels: Pixels, size: int) -> Image.Image:
    """Enlarges whole pixels where there are few of them, smoothly where there are many."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    coarse = size >= 3 * picture.width
    return picture.resize((size, size), Image.Resampling.NEAREST if coarse else Image.Resampling.LANCZOS)


def fitted(pen: ImageDraw.ImageDraw, text: str, room: int, size: int) -> str:
    """Returns what of a text fits into one line; a name may hold line breaks and what no font shows."""
    text = "".join(sign if sign.isprintable() else " " for sign in text)
    if pen.textlength(text, font=font(size)) <= room:
        return text
    while text and pen.textlength(text + "…", font=font(size)) > room:
        text = text[:-1]
    return text + "…"


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: the same on every machine."""
    return ImageFont.load_default(size)
