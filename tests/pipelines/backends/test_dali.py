"""The DALI graph on the CPU: exact for raw images, within a stated bound through its own resize."""

import gc
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from nvidia.dali import Pipeline, fn, types

from pipelines import ImageLoader, PatchLoader
from pipelines.backends.dali import DaliBackend
from pipelines.backends.reference import ReferenceBackend
from pipelines.backends.shard_reader import ShardReader
from pipelines.batch import PatchBatch
from pipelines.batch_plan import BatchPlan, OutputSpec
from pipelines.dali.operators import GraphInputs, build_graph, to_patches
from pipelines.sampling.augment import Augmentation
from pipelines.sampling.grid import patchify
from selfie_data.dataset.opened import open_dataset
from selfie_data.errors import CorruptSampleError, DatasetError
from tests.material import jpeg
from tests.pipelines.conftest import MakeDataset
from tests.pipelines.streams import assert_same_stream
from tests.selfie_data.images.test_orientation import BYTE, ORIENTATION, exif

# DALI's resize computes in float32 and rounds once, Pillow's rounds to bytes between its two passes.
MEAN_BOUND = 0.3
SHARE_BOUND = 0.005  # of values that are off by more than 1

EXACT = [
    {},
    {"masking": "zero", "whole_image": True, "dtype": "float32"},
    {"context": 3, "target": 5, "dtype": "bfloat16", "whole_image": True},
    {"patch_size": 16, "dtype": "float16"},
    {"evaluation": True, "global_batch_size": 20},
]
RESIZED = [
    {},
    {"masking": "zero", "whole_image": True},
    {"antialias": False},
    {"augment": Augmentation(crop_area=(0.08, 0.3))},
    {"evaluation": True},
]


def off(ours: torch.Tensor, theirs: torch.Tensor) -> tuple[float, float]:
    difference = (ours.float() - theirs.float()).abs()
    return difference.mean().item(), (difference > 1).float().mean().item()


@pytest.mark.parametrize("options", EXACT, ids=str)
def test_raw_patches_equal_the_reference(raw_shards: Path, options: dict[str, object]) -> None:
    options = {"global_batch_size": 9, "device": "cpu", "seed": 3, **options}
    with (
        PatchLoader(raw_shards, backend="dali", threads=2, **options) as ours,
        PatchLoader(raw_shards, backend="reference", **options) as reference,
    ):
        assert_same_stream(ours, reference)


@pytest.mark.parametrize("options", [{}, {"evaluation": True}, {"augment": Augmentation(padding=9)}], ids=str)
def test_raw_images_equal_the_reference(raw_shards: Path, options: dict[str, object]) -> None:
    options = {"global_batch_size": 7, "device": "cpu", **options}
    with (
        ImageLoader(raw_shards, backend="dali", threads=2, **options) as ours,
        ImageLoader(raw_shards, backend="reference", **options) as reference,
    ):
        assert_same_stream(ours, reference)


@pytest.mark.parametrize("options", RESIZED, ids=str)
def test_resized_patches_stay_within_the_bound(photo_shards: Path, options: dict[str, object]) -> None:
    options = {"global_batch_size": 15, "device": "cpu", **options}
    with (
        PatchLoader(photo_shards, backend="dali", threads=2, **options) as ours,
        PatchLoader(photo_shards, backend="reference", **options) as reference,
    ):
        for left, right in zip(ours, reference, strict=True):
            assert isinstance(left, PatchBatch)
            assert isinstance(right, PatchBatch)
            for name in ("sample_id", "position", "mask"):
                assert torch.equal(getattr(left, name), getattr(right, name))
            mean, share = off(left.patches, right.patches)
            assert mean <= MEAN_BOUND
            assert share <= SHARE_BOUND


def test_decoding_a_region_equals_decoding_all_of_it(photo_shards: Path) -> None:
    """Crops without a resize leave nothing but the decoder, which then must equal Pillow's to the bit."""
    dataset, rng = open_dataset(photo_shards), np.random.default_rng(1)
    one = np.ones(3, np.float32)
    spec = OutputSpec(image_size=48, batch_size=30, whole_image=True, scale=one, bias=one)
    top, left = rng.integers(0, 48, (2, 30))
    crop = np.stack((top, left, np.full(30, 48), np.full(30, 48)), axis=1)
    plan = BatchPlan(epoch=0, step=0, sample_id=np.arange(30), crop=crop)
    images = []
    for kind in (DaliBackend, ReferenceBackend):
        backend = kind(dataset, spec, device=torch.device("cpu"))
        backend.submit(plan)
        images.append(backend.result().image)
        backend.close()
    assert torch.equal(images[0], images[1])


@pytest.mark.parametrize("crop", [False, True])
def test_what_is_stored_is_not_turned(make_dataset: MakeDataset, crop: bool) -> None:
    """DALI's own rule takes an orientation that is a BYTE; Pillow's, by which images are stored, does not."""

    def told_by_a_byte(pixels: np.ndarray) -> bytes:
        data = jpeg(pixels)
        return data[:2] + exif([(ORIENTATION, BYTE, 6)]) + data[2:]

    shards = make_dataset(samples=4, size=48, encoding="jpeg", encode_one=told_by_a_byte)
    options = {"global_batch_size": 4, "device": "cpu", "evaluation": not crop}
    with (
        ImageLoader(shards, backend="dali", threads=1, **options) as ours,
        ImageLoader(shards, backend="reference", **options) as reference,
    ):
        for left, right in zip(ours, reference, strict=True):
            mean, share = off(left.image, right.image)
            assert mean <= MEAN_BOUND
            assert share <= SHARE_BOUND


@pytest.mark.parametrize(("size", "patch", "count"), [(32, 8, 16), (32, 8, 5), (96, 32, 9), (28, 4, 60)])
def test_patches_as_frames_equal_numpy(size: int, patch: int, count: int) -> None:
    rng, one = np.random.default_rng(0), np.ones(3, np.float32)
    images = rng.integers(0, 256, (6, size, size, 3), dtype=np.uint8)
    cells = rng.integers(0, (size // patch) ** 2, (6, count)).astype(np.int32)
    spec = OutputSpec(image_size=size, batch_size=6, patch_size=patch, patch_count=count, scale=one, bias=one)
    pipeline = Pipeline(batch_size=6, num_threads=1, device_id=None)
    with pipeline:
        image = fn.external_source(name="image", ndim=3, dtype=types.UINT8, layout="HWC")
        pipeline.set_outputs(to_patches(image, spec))
    pipeline.feed_input("image", images)
    pipeline.feed_input("cells", cells)
    ours = pipeline.run()[0].as_array()
    np.testing.assert_array_equal(ours, patchify(images, patch)[np.arange(6)[:, None], cells])


def test_tensors_are_handed_on_without_a_copy_and_stay_valid(photo_shards: Path) -> None:
    with PatchLoader(photo_shards, global_batch_size=5, device="cpu", backend="dali", threads=1) as loader:
        held = [(batch.patches, batch.patches.clone()) for _ in range(2) for batch in loader]
        assert len({patches.data_ptr() for patches, _ in held}) == len(held)
    gc.collect()
    for patches, copy in held:
        assert torch.equal(patches, copy)


def test_a_sample_that_cannot_be_decoded_is_named(make_dataset: MakeDataset) -> None:
    dataset = open_dataset(make_dataset(samples=6, shards=2, encoding="jpeg"))
    with dataset.shard_path(0).open("r+b") as file:
        file.seek(int(dataset.table.offset[1]))
        file.write(b"\0" * 200)
    loader = PatchLoader(dataset, global_batch_size=6, device="cpu", backend="dali", verify="never", threads=1)
    with loader, pytest.raises(CorruptSampleError, match=r"000000000001 .* cannot be decoded"):
        list(loader)
    loader = PatchLoader(dataset, global_batch_size=6, device="cpu", backend="dali", threads=1)
    with loader, pytest.raises(CorruptSampleError, match=r"000000000001 .* CRC32C"):
        list(loader)


def broken(shards: Path, sample: int, damage: str) -> None:
    """Damages a JPEG: `head` makes it none, `tail` has it end in the middle."""
    dataset = open_dataset(shards)
    start, length = int(dataset.table.offset[sample]), int(dataset.table.length[sample])
    with dataset.shard_path(int(dataset.table.shard[sample])).open("r+b") as file:
        file.seek(start if damage == "head" else start + length // 2)
        file.write(b"\0" * (200 if damage == "head" else length - length // 2))


@pytest.mark.parametrize("damage", ["head", "tail"])
@pytest.mark.parametrize("prefetch", [1, 2, 4])
def test_an_error_comes_at_the_batch_that_holds_the_sample(
    make_dataset: MakeDataset, damage: str, prefetch: int
) -> None:
    """With other batches before and behind it in DALI; the loader goes on once the shard is restored."""
    shards = make_dataset(samples=30, encoding="jpeg", size=96)
    dataset = open_dataset(shards)
    path = dataset.shard_path(int(dataset.table.shard[17]))
    whole = path.read_bytes()
    broken(shards, 17, damage)
    options = {"global_batch_size": 5, "device": "cpu", "evaluation": True, "verify": "never", "threads": 1}
    with ImageLoader(shards, backend="dali", prefetch=prefetch, **options) as loader:
        seen = []
        with pytest.raises(CorruptSampleError, match=r"exclude=\[17\]") as error:
            seen.extend(batch.sample_id.tolist() for batch in loader)
        assert seen == [list(range(start, start + 5)) for start in (0, 5, 10)]
        assert (error.value.shard, error.value.key) == (path.name, dataset.key(17))
        path.write_bytes(whole)
        loader.load_state_dict(loader.state_dict())
        assert [batch.sample_id.tolist() for batch in loader] == [
            list(range(start, start + 5)) for start in (15, 20, 25)
        ]


def test_plans_behind_one_that_failed_are_done(make_dataset: MakeDataset) -> None:
    shards = make_dataset(samples=30, encoding="jpeg", size=96)
    broken(shards, 17, "tail")
    dataset, spec = open_dataset(shards), spec_of(batch_size=5, patch_size=None)
    plans = [BatchPlan(epoch=0, step=step, sample_id=np.arange(5) + 5 * step) for step in range(6)]
    backend = DaliBackend(dataset, spec, device=torch.device("cpu"), verify="never")
    reference = ReferenceBackend(dataset, spec, device=torch.device("cpu"), verify="never")
    for plan in plans:
        backend.submit(plan)
        reference.submit(plan)
    for plan in plans:
        if plan.step == 3:
            with pytest.raises(CorruptSampleError, match=r"exclude=\[17\]"):
                backend.result()
            with pytest.raises(CorruptSampleError, match=r"exclude=\[17\]"):
                reference.result()
        else:
            assert torch.equal(backend.result().image, reference.result().image)
    backend.close()


def spec_of(*, batch_size: int, patch_size: int | None = 32) -> OutputSpec:
    one = np.ones(3, np.float32)
    count = 0 if patch_size is None else 4
    return OutputSpec(
        image_size=96,
        batch_size=batch_size,
        patch_size=patch_size,
        patch_count=count,
        whole_image=patch_size is None,
        scale=one,
        bias=one,
    )


def test_what_else_goes_wrong_is_told_with_its_cause_and_its_operator(make_dataset: MakeDataset) -> None:
    """A cell that is not in the grid; no sample is at fault, so none is decoded to find one."""
    dataset = open_dataset(make_dataset(samples=6, encoding="jpeg", size=96))
    cells = np.zeros((3, 4), np.int64)
    cells[1, 2] = 99
    backend = DaliBackend(dataset, spec_of(batch_size=3), device=torch.device("cpu"))
    backend.submit(BatchPlan(epoch=4, step=7, sample_id=np.array([5, 3, 1]), position=cells))
    match = r"^DALI failed at epoch 4, step 7, sample 000000000003, in fn\.sequence_rearrange \(.*it is: 99\.\); try"
    with pytest.raises(DatasetError, match=match) as error:
        backend.result()
    assert type(error.value) is DatasetError
    assert "\n" not in str(error.value)
    backend.submit(BatchPlan(epoch=4, step=8, sample_id=np.array([5]), position=cells[:1]))
    assert backend.result().patches.shape == (1, 4, 32, 32, 3)
    backend.close()


def test_a_feeder_s_error_keeps_its_type(make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise MemoryError("no memory for the graph")

    monkeypatch.setattr("pipelines.backends.dali.build_graph", fail)
    loader = PatchLoader(make_dataset(), global_batch_size=5, device="cpu", backend="dali")
    with loader, pytest.raises(MemoryError, match="no memory for the graph"):
        list(loader)


@pytest.mark.parametrize("prefetch", [1, 2, 5])
@pytest.mark.parametrize("samples", [5, 10, 30])
def test_epochs_of_any_length_with_any_number_under_way(make_dataset: MakeDataset, samples: int, prefetch: int) -> None:
    """One step an epoch too; plans are fed two ahead, in their order."""
    shards = make_dataset(samples=samples, shards=1)
    options = {"global_batch_size": 5, "device": "cpu", "seed": 2}
    with (
        PatchLoader(shards, backend="dali", threads=1, prefetch=prefetch, **options) as ours,
        PatchLoader(shards, backend="reference", **options) as reference,
    ):
        for _ in range(3):
            assert_same_stream(ours, reference)


def test_the_trainer_s_thread_reads_and_feeds_nothing(raw_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: dict[str, set[int]] = {}

    def watched(kind: type, name: str) -> None:
        method = getattr(kind, name)

        def call(*args: object, **kwargs: object) -> object:
            threads.setdefault(name, set()).add(threading.get_ident())
            return method(*args, **kwargs)

        monkeypatch.setattr(kind, name, call)

    watched(Pipeline, "feed_input")
    watched(Pipeline, "schedule_run")
    watched(Pipeline, "outputs")
    watched(ShardReader, "read")
    with PatchLoader(raw_shards, global_batch_size=5, device="cpu", backend="dali") as loader:
        list(loader)
    assert threads["outputs"] == {threading.get_ident()}
    assert threads["read"] == threads["feed_input"] == threads["schedule_run"]
    assert threads["read"] & threads["outputs"] == set()


def test_raw_images_of_the_model_s_size_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a slice of all of it")

    nothing = GraphInputs(crop=False, resize=False, window=False, flip=True, cells=True)
    build_graph(spec_of(batch_size=4), nothing, raw=True, device_id=None, threads=1)
    monkeypatch.setattr(fn, "slice", refuse)
    build_graph(spec_of(batch_size=4), nothing, raw=True, device_id=None, threads=1, at_size=True)
    with pytest.raises(AssertionError, match="all of it"):
        build_graph(spec_of(batch_size=4), nothing, raw=True, device_id=None, threads=1)


def test_the_decoder_of_a_gpu_is_told_what_differs_from_its_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, dict[str, object]] = {}

    def watched(place: object, name: str) -> None:
        operator = getattr(place, name)

        def call(*args: object, **kwargs: object) -> object:
            given[name] = kwargs
            return operator(*args, **kwargs)

        monkeypatch.setattr(place, name, call)

    monkeypatch.setattr(Pipeline, "build", lambda *_: None)
    watched(fn.decoders, "image")
    watched(fn, "resize")
    every = GraphInputs(crop=True, resize=True, window=True, flip=True, cells=True)
    build_graph(spec_of(batch_size=1024), every, raw=False, device_id=3, threads=1)
    wanted = {"device": "mixed", "hw_decoder_load": 0.0, "jpeg_fancy_upsampling": True, "affine": False}
    assert wanted.items() <= given["image"].items()
    assert given["resize"]["minibatch_size"] == 1024


def test_closing_ends_its_threads(photo_shards: Path) -> None:
    before = threading.active_count()
    loader = PatchLoader(photo_shards, global_batch_size=5, device="cpu", backend="dali", threads=2)
    next(iter(loader))
    loader.close()
    gc.collect()
    assert threading.active_count() == before


def test_the_graph_of_a_gpu_can_be_described_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators check their arguments when the graph is written down; building it needs the device."""
    monkeypatch.setattr(Pipeline, "build", lambda *_: None)
    one = np.ones(3, np.float32)
    spec = OutputSpec(
        image_size=224, batch_size=4, patch_size=32, patch_count=49, whole_image=True, scale=one, bias=one
    )
    every = GraphInputs(crop=True, resize=True, window=True, flip=True, cells=True)
    for raw in (True, False):
        assert build_graph(spec, every, raw=raw, device_id=0, threads=1) is not None
