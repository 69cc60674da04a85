"""The loaders: shards in, batches out.

    with PatchLoader("shards", global_batch_size=512, seed=1) as loader:
        for batch in loader:                                            # one epoch
            loss = model(batch)

A batch is a pure function of (dataset, options, seed, epoch, step); ranks take slices of it. Every option below that is
not marked (*) belongs to the stream's identity: a state taken under one value is refused under another.
"""

from pipelines.batch import ImageBatch, PatchBatch
from pipelines.options import ImageLoaderOptions, PatchLoaderOptions, keywords_of
from pipelines.parts import resolve_parts
from pipelines.sampling.blocks import named_selection
from pipelines.sampling.grid import Grid, default_patch_size
from pipelines.sampling.images import ImageRecipe
from pipelines.sampling.patches import PatchRecipe, patch_counts
from pipelines.staging import Staging
from pipelines.stream import EpochStream


class PatchLoader(EpochStream[PatchBatch]):
    """Patches of images for pretraining, context first.

    Args:
        shards: dataset directory or URL, or an open `Dataset`. Shards at a URL are read through this node's cache.
        subset: name of a stored split, ids, or the path of an .npy file of ids; None = all samples.
        exclude: ids to leave out, or the path of an .npy or .txt (one id a line) file of them.
        on_error: (*) `fail` raises at a corrupt sample; `record` also adds its id to the .txt file `exclude`, so that
            the same call, made again, goes without it.
        follow: (*) states of what the dataset was, before it grew or shrank, are taken too, at the start of an epoch.
        global_batch_size: samples of a step over all ranks.
        seed: of order and draws, 0 <= seed < 2**64.
        shuffle: `global`; a number of shards: block shuffle in windows of so many, for slow disks; or `lanes`: each
            rank reads shards of its own, and the ranks together every shard about once. None = `global`, at a URL
            `lanes`.
        lanes: of `shuffle="lanes"`, divide the global batch; a multiple of the nodes is best. None = the most up to 64.
        evaluation: id order, every sample once, the last step padded (sample_id -1), the same draws in every epoch.
        rank: (*) this process's number; None = from torch.distributed.
        world_size: (*) number of processes; None = from torch.distributed.
        augment: `pretrain`, `finetune` (not at <= 64 px: padding gives positions away), `none` or an `Augmentation`;
            `auto` = `pretrain`, in an evaluation `none`.
        dtype: (*) `uint8`, or normalised `float32`, `float16`, `bfloat16`.
        normalisation: (*) (scale, bias) instead of the dataset's own statistics.
        antialias: (*) False = plain bilinear resizing.
        patch_size: p in pixels, divides the image size; None = 8 up to 64 px, else 32.
        context: patches the encoder sees; None = what is not target.
        target: patches to put back; None = a quarter of the grid.
        masking: `skip` leaves hidden patches out; `zero` gives the full grid with hidden patches zero, after
            normalising, and then the targets.
        selection: which cells are context and target: `random`, `blocks`, `squares`, `multiblock`, one of these with
            other parameters (`sampling.blocks`: `Blocks(smallest=4)`), or a rule of one's own, a function of the draw
            (`sampling.selection.Selection`); None = `random`.
        whole_image: (*) also gives the whole image with its hidden patches zero.
        device: (*) `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`.
        backend: (*) `auto`, `cpu` (or `fused`), `gpu`, `dali-operators` (or `dali`), `reference` or `store`.
        decode: (*) of the backend `gpu`: `mixed`, nvJPEG's pixels, which differ by little from libjpeg's, or `cpu`.
        store: (*) pixel store of this dataset, held in memory instead of reading shards.
        verify: (*) checks checksums `first` time a sample is read, `always` or `never`.
        threads: (*) of the backend; None = the cores this process may use.
        prefetch: (*) batches under way.

    Raises:
        DatasetError: the dataset is damaged; found before anything is built.
        ValueError: an option that does not fit, with the rule and what was got.
        TypeError: a keyword that there is not; it is named.

    Attributes:
        normalisation: (scale, bias), float32 [3] each: what float output went through, or uint8 output should.
        grid: of an image's cells.
        class_names: of the dataset.
        fingerprint: of the dataset.
    """

    @keywords_of(PatchLoaderOptions)
    def __init__(self, options: PatchLoaderOptions) -> None:
        parts = resolve_parts(options, preset="pretrain")
        if parts.draw.augmentation.padding:
            raise ValueError(
                "patches must not come from padded crops: zeros in a border patch tell where it was, and the task is "
                "solved without seeing anything; use augment='pretrain'"
            )
        size = parts.dataset.image_size
        patch_size = default_patch_size(size) if options.patch_size is None else options.patch_size
        self.grid = Grid(image_size=size, patch_size=patch_size)
        rule = named_selection(options.selection) if isinstance(options.selection, str) else options.selection
        context, target = patch_counts(
            self.grid, rule, context=options.context, target=options.target, masking=options.masking
        )
        spec = parts.output_spec(
            patch_size=patch_size,
            patch_count=(context if options.masking == "skip" else self.grid.cells) + target,
            whole_image=options.whole_image,
        )
        recipe = PatchRecipe(
            draw=parts.draw,
            spec=spec,
            staging=Staging(parts.device),
            grid=self.grid,
            context=context,
            target=target,
            masking=options.masking,
            selection=rule,
        )
        super().__init__(parts, recipe)


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

    @keywords_of(ImageLoaderOptions)
    def __init__(self, options: ImageLoaderOptions) -> None:
        parts = resolve_parts(options, preset="finetune")
        recipe = ImageRecipe(draw=parts.draw, spec=parts.output_spec(), staging=Staging(parts.device))
        super().__init__(parts, recipe)
