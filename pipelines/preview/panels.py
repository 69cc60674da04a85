"""Sheets of selections that are no puzzle: beside each image, what each encoder is shown of it.

    caption
    +----------------+  +----------------+  +----------------+
    |     image      |  |    context     |  |     hidden     |   or   target 1 … target M
    +----------------+  +----------------+  +----------------+

Drawing only, as `contact_sheet`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipelines.preview.contact_sheet import FAINT, HIDDEN, INK, PAPER, fitted, font, scaled

_MARGIN = 20
_GAP = 14
_LINE = 20
_PANEL = 224  # px


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PanelEntry:
    """One image of a sheet.

    Attributes:
        caption: what is written above it.
        image: the whole image, uint8 [S, S, 3].
        shown: title of a panel -> bool [G], the cells that are shown in it.
    """

    caption: str
    image: NDArray[np.uint8]
    shown: Mapping[str, NDArray[np.bool_]]


def draw_panels(
    entries: Sequence[PanelEntry], *, side: int, title: str, subtitle: str, columns: int = 1
) -> Image.Image:
    """Draws a sheet.

    Args:
        entries: at least one; all with as many panels.
        side: cells in a row of the grid.
        title: first line of the sheet.
        subtitle: second line.
        columns: entries beside each other.
    """
    width = (1 + len(entries[0].shown)) * (_PANEL + _GAP) - _GAP
    height = 2 * _LINE + _PANEL
    columns = min(columns, len(entries))
    head = _MARGIN + 3 * _LINE
    size = (
        _MARGIN + columns * (width + _MARGIN),
        head + -(-len(entries) // columns) * (height + _MARGIN),
    )
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    room = sheet.width - 2 * _MARGIN
    pen.text((_MARGIN, _MARGIN - 6), fitted(pen, title, room, 20), fill=INK, font=font(20))
    pen.text((_MARGIN, _MARGIN + 20), fitted(pen, subtitle, room, 14), fill=FAINT, font=font(14))
    for number, entry in enumerate(entries):
        row, column = divmod(number, columns)
        left, top = _MARGIN + column * (width + _MARGIN), head + row * (height + _MARGIN)
        pen.text((left, top), fitted(pen, entry.caption, width, 15), fill=INK, font=font(15))
        pictures = {"image": entry.image} | {
            name: only(entry.image, shown, side=side) for name, shown in entry.shown.items()
        }
        for name, picture in pictures.items():
            pen.text((left, top + _LINE), name, fill=FAINT, font=font(13))
            sheet.paste(scaled(picture, _PANEL), (left, top + 2 * _LINE))
            left += _PANEL + _GAP
    return sheet


def only(image: NDArray[np.uint8], shown: NDArray[np.bool_], *, side: int) -> NDArray[np.uint8]:
    """Returns a copy of `image` [S, S, 3] that is dark outside of the cells in `shown` [G]."""
    size = len(image) // side
    pixels = shown.reshape(side, side).repeat(size, axis=0).repeat(size, axis=1)
    return np.where(pixels[:, :, None], image, np.array(HIDDEN, np.uint8))
