"""What a patch's place in the grid looks like as a vector: a learned table, or learned rows plus learned columns.

A 4x4 grid has 16 vectors; a 7x7 grid has 7 + 7 = 14, summed in pairs. The same positions tell the encoder where the
context lies and ask for a target's place. Source: the paper, section "Positional embedding".
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from selfie_model.config import Config


class Positions(nn.Module):
    """One vector a cell.

    Attributes:
        table: [cells, embedding] with positions `table`.
        row, column: [side, embedding] each with `row_column`.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        model = config.model
        self.side = model.side
        self.kind = model.positions
        if self.kind == "table":
            self.table = _vectors(model.cells, model.embedding)
        else:
            self.row = _vectors(model.side, model.embedding)
            self.column = _vectors(model.side, model.embedding)

    def forward(self, cell: Tensor) -> Tensor:
        """Maps row-major cells, int64 [...], 0..cells-1, to [..., embedding]."""
        # Not `table[cell]`: with several threads its backward adds in whatever order they come, and no run repeats.
        if self.kind == "table":
            return embedding(cell, self.table)
        row = torch.div(cell, self.side, rounding_mode="floor")
        return embedding(row, self.row) + embedding(cell - row * self.side, self.column)


def _vectors(count: int, width: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(count, width), std=0.02))
