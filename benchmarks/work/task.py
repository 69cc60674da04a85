"""What every system of the loader benchmark is asked to do, as plain numbers that travel as JSON.

    encoded images, shuffled -> random resized crop (224) or whole (32) -> flip -> patches of a random order,
    12 + 4 of 8x8 or 37 + 12 of 32x32, as [B, N, p, p, 3], uint8 or normalised float32

or, for a masked autoencoder, `Masked`: 49 of 14 x 14 patches of 16 px to be seen, and all of them to be put back.

Needs NumPy only: peers import it in an environment of their own.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

Quality = Literal["antialiased", "linear", "none"]
Dtype = Literal["float32", "uint8"]

# Statistics of ImageNet that everyone normalises with, in 0..255 units (He et al. 2015, as torchvision ships them).
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """A batch for a masked autoencoder: NumPy arrays or tensors.

    Attributes:
        visible: [B, V, p, p, 3], what the encoder sees.
        visible_position: [B, V], the cell of each, row by row of the grid.
        patches: [B, G, p, p, 3], whole images, in any order of their cells.
        position: [B, G], the cell of each of `patches`.
        mask: [B, G] over the grid, true or 1 = hidden.
    """

    visible: Any
    visible_position: Any
    patches: Any
    position: Any
    mask: Any

    def __len__(self) -> int:
        return len(self.visible)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One row of the loader's table.

    Attributes:
        row: name of the row.
        material: name of the folder of images under `folder`: `full`, `jpeg256`, `jpeg32` or `raw32`.
        folder: where the prepared material lies; never recorded.
        image_size: side of what is cut into patches, pixels.
        patch_size: side of a patch, pixels.
        quality: how the crop is resized; `none` where nothing is.
        area: range of the crop's share of the image.
        dtype: of the patches.
        batch_size: images a batch.
        threads: cores a system may use, as threads or as worker processes.
        rank, ranks: this process's slice of each batch, for the scaling question.
        decoder: `simplejpeg` or `pillow`, for systems that let the user choose.
        visible: cells that a masked autoencoder's encoder sees, drawn for each image: batches are `Masked`; 0: they are
            patches.
    """

    row: str
    material: str
    folder: str
    image_size: int
    patch_size: int
    quality: Quality
    batch_size: int
    threads: int
    dtype: Dtype = "float32"
    area: tuple[float, float] = (0.2, 1.0)
    rank: int = 0
    ranks: int = 1
    decoder: str = "simplejpeg"
    visible: int = 0
    seed: int = 0

    @property
    def cells(self) -> int:
        """Patches an image."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def crops(self) -> bool:
        """True where a random window is cut out and resized."""
        return self.quality != "none"

    @property
    def encoded(self) -> bool:
        """False where the stored images are raw pixels."""
        return self.material != "raw32"

    @property
    def source(self) -> Path:
        """The packed images that every system's own format is made from."""
        return Path(self.folder) / self.material

    @property
    def case(self) -> str:
        """Row and dtype, the name in records."""
        return f"{self.row}-{self.dtype}"

    def converted(self, system: str) -> Path:
        """Where `system` keeps its own form of the material."""
        return Path(self.folder) / f"{self.material}.{system}"

    def to_json(self) -> str:
        """One line; `from_json` is the inverse."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> "Task":
        """The task that `to_json` wrote."""
        fields = json.loads(line)
        return cls(**{**fields, "area": tuple(fields["area"])})

    def settings(self) -> dict[str, object]:
        """What a record says of the task: everything but the folder."""
        return {key: value for key, value in asdict(self).items() if key != "folder"}


def rows(folder: Path, *, threads: int, dtype: Dtype = "float32") -> dict[str, Task]:
    """The rows of the table by name. Batches: 64 at 224 px (39 MB of float32), 512 at 32 px as in the paper."""
    large = Task(
        row="",
        material="jpeg256",
        folder=str(folder),
        image_size=224,
        patch_size=32,
        quality="antialiased",
        batch_size=64,
        threads=threads,
        dtype=dtype,
    )
    masked = replace(large, patch_size=16, visible=49)  # He et al. 2022, arXiv 2111.06377: 75 % of 14 x 14 are hidden
    small = replace(large, image_size=32, patch_size=8, quality="none", batch_size=512)
    table = (
        replace(large, row="jpeg256-antialiased"),
        replace(large, row="jpeg256-linear", quality="linear"),
        replace(large, row="full-antialiased", material="full"),
        replace(large, row="full-linear", material="full", quality="linear"),
        replace(masked, row="mae-jpeg256"),
        replace(masked, row="mae-full", material="full"),
        replace(small, row="jpeg32", material="jpeg32"),
        replace(small, row="raw32", material="raw32"),
        replace(small, row="store32", material="raw32"),
    )
    return {task.row: task for task in table}
