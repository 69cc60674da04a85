"""The loaders: shards in, batches out.

    with PatchLoader("shards", global_batch_size=512, seed=1) as loader:
        for batch in loader:                                            # one epoch
            loss = model(batch)

A batch is a pure function of (dataset, options, seed, epoch, step); ranks take slices of it. Every option below that is
not marked (*) belongs to the stream's identity: a state taken under one value is refused under another.
"""

from pathlib import Path

import torch

from pipelines.arguments import whole_number
from pipelines.backends.choose import BackendName
from pipelines.batch import ImageBatch, PatchBatch
from pipelines.batch_plan import Dtype, Verify
from pipelines.normalise import Normalisation
from pipelines.options import LoaderOptions, LoaderParts, OnError, Shuffle
from pipelines.sampling.augment import Augmentation
from pipelines.sampling.grid import Grid, default_patch_size, default_split
from pipelines.sampling.images import ImageRecipe
from pipelines.sampling.patches import Masking, PatchRecipe
from pipelines.sampling.selection import Selection
from pipelines.sampling.subset import Ids
from pipelines.stream import EpochStream
from selfie_data.dataset.opened import Dataset


class PatchLoader(EpochStream[PatchBatch]):
    """Patches of images for pretraining, context first.

    Args:
        shards: dataset directory, or an open `Dataset`.
        global_batch_size: samples of a step over all ranks.
        seed: of order and draws, 0 <= seed < 2**64.
        device: (*) `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`.
        backend: (*) `auto`, `fused`, `dali`, `reference` or `store`.
        subset: name of a stored split, ids, or the path of an .npy file of ids; None = all samples.
        exclude: ids to leave out, or the path of an .npy or .txt (one id a line) file of them.
        on_error: (*) `fail` raises at a corrupt sample; `record` also adds its id to the .txt file `exclude`, so that
            the same call, made again, goes without it.
        rank: (*) this process's number; None = from torch.distributed.
        world_size: (*) number of processes; None = from torch.distributed.
        patch_size: p in pixels, divides the image size; None = 8 up to 64 px, else 32.
        context: patches the encoder sees; None = what is not target.
        target: patches to put back; None = a quarter of the grid.
        masking: `skip` leaves hidden patches out; `zero` gives the full grid with holes, zero after normalising, and
            then the targets.
        selection: a rule of one's own for which cells are context and target, a function of the draw
            (`selection.Selection`).
        augment: `pretrain`, `finetune` (not at <= 64 px: padding gives positions away), `none` or an `Augmentation`;
            `auto` = `pretrain`, in an evaluation `none`.
        whole_image: (*) also gives the whole image with its hidden patches blanked.
        dtype: (*) `uint8`, or normalised `float32`, `float16`, `bfloat16`.
        normalisation: (*) (scale, bias) instead of the data set's own statistics.
        antialias: (*) False = plain bilinear resizing.
        shuffle: `global`, or a number of shards: block shuffle in windows of so many, for slow disks.
        evaluation: id order, every sample once, the last step padded (sample_id -1), the same draws in every epoch.
        verify: (*) checks checksums `first` time a sample is read, `always` or `never`.
        threads: (*) of the backend; None = the cores this process may use.
        prefetch: (*) batches under way.
        store: (*) pixel store of this dataset, held in memory instead of reading shards.

    Raises:
        DatasetError: the dataset is damaged; found before anything is built.
        ValueError: an option that does not fit, with the rule and what was got.

    Attributes:
        normalisation: (scale, bias), float32 [3] each: what float output went through, or uint8 output should.
        grid: of an image's cells.
        class_names: of the dataset.
        fingerprint: of the dataset.
    """

    def __init__(
        self,
        shards: Path | str | Dataset,
        *,
        global_batch_size: int,
        seed: int = 0,
        device: str | torch.device = "auto",
        backend: BackendName = "auto",
        subset: Ids = None,
        exclude: Ids = None,
        on_error: OnError = "fail",
        rank: int | None = None,
        world_size: int | None = None,
        patch_size: int | None = None,
        context: int | None = None,
        target: int | None = None,
        masking: Masking = "skip",
        selection: Selection | None = None,
        whole_image: bool = False,
        augment: str | Augmentation = "auto",
        dtype: Dtype = "uint8",
        normalisation: Normalisation | None = None,
        antialias: bool = True,
        shuffle: Shuffle = "global",
        evaluation: bool = False,
        verify: Verify = "first",
        threads: int | None = None,
        prefetch: int = 2,
        store: Path | str | None = None,
    ) -> None:
        options = LoaderOptions(
            shards=shards,
            global_batch_size=global_batch_size,
            seed=seed,
            device=device,
            backend=backend,
            subset=subset,
            exclude=exclude,
            on_error=on_error,
            rank=rank,
            world_size=world_size,
            dtype=dtype,
            normalisation=normalisation,
            antialias=antialias,
            shuffle=shuffle,
            evaluation=evaluation,
            verify=verify,
            threads=threads,
            prefetch=prefetch,
            store=store,
        )
        parts = LoaderParts.resolve(options)
        size = parts.dataset.image_size
        side = default_patch_size(size) if patch_size is None else whole_number("patch_size", patch_size)
        self.grid = Grid(image_size=size, patch_size=side)
        seen, hidden = _split(self.grid, context, target)
        if masking not in ("skip", "zero"):
            raise ValueError(f"masking must be 'skip' or 'zero', got {masking!r}")
        if selection is not None and not callable(selection):
            raise ValueError(f"selection must be a function (selection.Selection) or None, got {selection!r}")
        draw = parts.image_draw(augment, preset="pretrain")
        if draw.augmentation.padding:
            raise ValueError(
                "patches must not come from padded crops: zeros in a border patch tell where it was, and the task is "
                "solved without seeing anything; use augment='pretrain'"
            )
        spec = parts.output_spec(
            patch_size=self.grid.patch_size,
            patch_count=(seen if masking == "skip" else self.grid.cells) + hidden,
            whole_image=whole_image,
        )
        recipe = PatchRecipe(
            draw=draw,
            spec=spec,
            grid=self.grid,
            context=seen,
            target=hidden,
            masking=masking,
            selection=selection,
            device=parts.device,
        )
        self.normalisation = parts.normalisation
        self.class_names = parts.dataset.class_names
        self.fingerprint = parts.dataset.fingerprint
        super().__init__(parts.stream(recipe, spec, recipe.describe()))


class ImageLoader(EpochStream[ImageBatch]):
    """Whole images and labels for finetuning and evaluation; unlabelled samples have label -1.

    Args: as `PatchLoader`, but for those about patches, and

        augment: `finetune` (padded crop and flip up to 64 px, else random resized crop and flip), `pretrain`, `none`
            or an `Augmentation`; `auto` = `finetune`, in an evaluation `none`.
        evaluation: id order, every sample once, the last step padded with label and sample_id -1; images as stored
            where all are stored at the model's size, else shorter side to S * 8 / 7 and the central S x S.
        normalisation: (*) for a test set, give the training loader's.

    Attributes: as `PatchLoader`, without `grid`.
    """

    def __init__(
        self,
        shards: Path | str | Dataset,
        *,
        global_batch_size: int,
        seed: int = 0,
        device: str | torch.device = "auto",
        backend: BackendName = "auto",
        subset: Ids = None,
        exclude: Ids = None,
        on_error: OnError = "fail",
        rank: int | None = None,
        world_size: int | None = None,
        augment: str | Augmentation = "auto",
        dtype: Dtype = "uint8",
        normalisation: Normalisation | None = None,
        antialias: bool = True,
        shuffle: Shuffle = "global",
        evaluation: bool = False,
        verify: Verify = "first",
        threads: int | None = None,
        prefetch: int = 2,
        store: Path | str | None = None,
    ) -> None:
        options = LoaderOptions(
            shards=shards,
            global_batch_size=global_batch_size,
            seed=seed,
            device=device,
            backend=backend,
            subset=subset,
            exclude=exclude,
            on_error=on_error,
            rank=rank,
            world_size=world_size,
            dtype=dtype,
            normalisation=normalisation,
            antialias=antialias,
            shuffle=shuffle,
            evaluation=evaluation,
            verify=verify,
            threads=threads,
            prefetch=prefetch,
            store=store,
        )
        parts = LoaderParts.resolve(options)
        spec = parts.output_spec(patch_size=None, patch_count=0, whole_image=True)
        recipe = ImageRecipe(draw=parts.image_draw(augment, preset="finetune"), spec=spec, device=parts.device)
        self.normalisation = parts.normalisation
        self.class_names = parts.dataset.class_names
        self.fingerprint = parts.dataset.fingerprint
        super().__init__(parts.stream(recipe, spec, recipe.describe()))


def _split(grid: Grid, context: int | None, target: int | None) -> tuple[int, int]:
    """Returns (context, target) with defaults: a quarter of the cells are targets, the rest is context."""
    context = None if context is None else whole_number("context", context)
    target = None if target is None else whole_number("target", target)
    if target is None:
        target = default_split(grid.cells)[1] if context is None else grid.cells - context
    if context is None:
        context = grid.cells - target
    if context < 1 or target < 1 or context + target > grid.cells:
        raise ValueError(
            f"context and target must be at least 1 and together at most the {grid.cells} cells of the grid, "
            f"got {context} + {target}"
        )
    return context, target
