"""Images of which a window is decoded are those of the whole image, to the bit; what cannot be cut is decoded whole."""

import logging
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch

from pipelines import ImageLoader, PatchLoader
from pipelines.backends.cpu_shards import ShardBackend
from pipelines.backends.jpeg_windows import Misfits, Windows
from pipelines.backends.reference import ReferenceBackend
from pipelines.backends.shard_reader import Payloads
from pipelines.batch_plan import BatchPlan, OutputSpec
from pipelines.sampling.augment import Augmentation
from selfie_data.dataset.opened import open_dataset
from selfie_data.errors import CorruptSampleError
from tests.pipelines.backends.marked import marked
from tests.pipelines.conftest import MakeDataset
from tests.pipelines.streams import assert_same_stream

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"antialias": False, "whole_image": True},
        {"augment": Augmentation(flip=True, crop_area=(0.02, 0.3))},
        {"evaluation": True},
    ],
    ids=str,
)
def test_patches_equal_the_reference(marked_shards: Path, options: dict[str, object], cuts: list[int]) -> None:
    options = {"global_batch_size": 7, "device": "cpu", "seed": 3, **options}
    with (
        PatchLoader(marked_shards, backend="cpu", threads=2, **options) as ours,
        PatchLoader(marked_shards, backend="reference", **options) as reference,
    ):
        for _ in range(3):
            assert_same_stream(ours, reference)
    assert sum(size > 0 for size in cuts) > len(cuts) / 4
    assert min(cuts) >= -1  # nothing was unexpected


@pytest.mark.parametrize("options", [{}, {"augment": Augmentation(padding=30)}, {"evaluation": True}], ids=str)
def test_images_equal_the_reference(marked_shards: Path, options: dict[str, object], cuts: list[int]) -> None:
    options = {"global_batch_size": 7, "device": "cpu", "seed": 4, **options}
    with (
        ImageLoader(marked_shards, backend="cpu", threads=2, **options) as ours,
        ImageLoader(marked_shards, backend="reference", **options) as reference,
    ):
        for _ in range(2):
            assert_same_stream(ours, reference)
    assert any(size > 0 for size in cuts)


def test_plans_with_every_mixture_of_fields_equal_the_reference(marked_shards: Path) -> None:
    dataset, rng = open_dataset(marked_shards), np.random.default_rng(0)
    one = np.ones(3, np.float32)
    wanted = OutputSpec(image_size=96, batch_size=8, whole_image=True, scale=one, bias=0 * one)
    backends = [kind(dataset, wanted, device=CPU, threads=2) for kind in (ShardBackend, ReferenceBackend)]
    for number in range(48):
        ids = rng.integers(0, len(dataset), 8)
        fields: dict[str, object] = {}
        if number & 1:
            corner = rng.integers(0, np.stack((dataset.table.height[ids], dataset.table.width[ids]), axis=1))
            most = np.stack((dataset.table.height[ids], dataset.table.width[ids]), axis=1) - corner
            fields["crop"] = np.hstack((corner, rng.integers(1, most + 1)))
        if number & 2:
            fields["resize"] = rng.integers(1, 250, (8, 2))
        if number & 4:
            fields["window"] = rng.integers(-120, 200, (8, 2))
        if number & 8:
            fields["flip"] = rng.random(8) < 0.5
        for backend in backends:
            backend.submit(BatchPlan(epoch=0, step=number, sample_id=ids, **fields))
    for _ in range(48):
        ours, reference = (backend.result() for backend in backends)
        assert torch.equal(ours.image, reference.image)
    for backend in backends:
        backend.close()


def without_a_marker(jpeg: bytes) -> bytes:
    """The marker in the middle is one too high: its interval cannot be told from the next."""
    places = [place for place in range(len(jpeg)) if jpeg[place] == 0xFF and 0xD0 <= jpeg[place + 1] <= 0xD7]
    place = places[len(places) // 2] + 1
    return jpeg[:place] + bytes([0xD0 + (jpeg[place] + 1) % 8]) + jpeg[place + 1 :]


def test_what_is_not_as_expected_is_decoded_whole_counted_and_said_once(
    make_dataset: MakeDataset, caplog: pytest.LogCaptureFixture
) -> None:
    encode = marked("420", 1)
    path = make_dataset(
        samples=12,
        size=96,
        encoding="jpeg",
        shapes=[(120, 200), (130, 140)],
        encode_one=lambda image: without_a_marker(encode(image)) if image.shape[0] == 120 else encode(image),
    )
    options = {"global_batch_size": 4, "device": "cpu"}
    caplog.set_level(logging.WARNING)
    with (
        PatchLoader(path, backend="cpu", threads=2, **options) as ours,
        PatchLoader(path, backend="reference", **options) as reference,
    ):
        assert_same_stream(ours, reference)
        (said,) = [record.message for record in caplog.records]
        assert "is decoded whole, which takes longer" in said
        assert "markers are where they should be" in said
    assert "6 times a JPEG was decoded whole" in caplog.records[-1].message
    assert len(caplog.records) == 2


def test_jpegs_without_markers_are_decoded_whole_and_nothing_is_said(
    photo_shards: Path, cuts: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with PatchLoader(photo_shards, global_batch_size=10, device="cpu", backend="cpu") as loader:
        for _ in loader:
            pass
    assert set(cuts) == {-1}
    assert not caplog.records


def test_an_image_of_another_size_than_the_table_says_is_an_error(make_dataset: MakeDataset) -> None:
    """A window of it would not show."""
    encode = marked("444", 1)
    path = make_dataset(
        samples=4,
        shards=1,
        size=96,
        encoding="jpeg",
        shapes=[(120, 200)],
        encode_one=lambda image: encode(np.pad(image, ((0, 8), (0, 0), (0, 0)))),
    )
    with (
        PatchLoader(path, global_batch_size=4, device="cpu", backend="cpu") as loader,
        pytest.raises(CorruptSampleError, match="the image is 128 x 200, the sample table says 120 x 200"),
    ):
        next(iter(loader))


def test_a_window_that_cannot_be_decoded_gives_way_to_the_whole_image(
    marked_shards: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, encode = open_dataset(marked_shards), marked("420", 1)
    jpeg = encode(np.full((200, 260, 3), 77, np.uint8))
    payloads = Payloads(
        buffer=np.frombuffer(jpeg * 2, np.uint8).copy(),
        offset=np.array([0, len(jpeg)]),
        length=np.array([len(jpeg)] * 2),
        rows=dataset.rows(np.array([0, 1])),
    )
    misfits = Misfits(dataset)
    windows = Windows(np.array([0, 1]), payloads, np.array([(200, 260)] * 2), misfits)
    assert windows.placed.tolist() == [[0, 0, 200, 260]] * 2
    needed = np.array([(50, 60, 40, 30), (0, 0, 200, 260)])
    windows.cut(needed, np.empty(2 * len(jpeg), np.uint8))
    assert windows.placed.tolist() == [[48, 48, 48, 48], [0, 0, 200, 260]]
    assert simplejpeg.decode_jpeg(windows.jpeg(0)).shape == (48, 48, 3)
    assert windows.jpeg(1).tobytes() == jpeg
    windows.give_up(1)
    assert misfits.count == 0
    windows.give_up(0)
    assert windows.placed[0].tolist() == [0, 0, 200, 260]
    assert windows.jpeg(0).tobytes() == jpeg
    assert misfits.count == 1
    assert "cannot be decoded" in caplog.records[-1].message
