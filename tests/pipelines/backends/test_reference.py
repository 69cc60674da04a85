import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from pipelines.backends.plain_resize import resize_bilinear
from pipelines.backends.reference import ReferenceBackend, image_of, render, window_of
from pipelines.batch_plan import BatchPlan, OutputSpec
from pipelines.normalise import Normalisation, from_statistics, normalise
from pipelines.staging import Staging
from selfie_data.dataset.opened import open_dataset
from selfie_data.errors import CorruptSampleError
from tests.pipelines.conftest import MakeDataset, encode, random_images

CPU = torch.device("cpu")
UNIT = {"scale": np.ones(3, np.float32), "bias": np.zeros(3, np.float32)}


def make_plan(**parts: object) -> BatchPlan:
    return BatchPlan(epoch=0, step=0, sample_id=np.zeros(1, np.int64), **parts)


def test_the_two_pass_resize_is_pillows_one_pass_at_a_time() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        height, width, new_height, new_width = rng.integers(1, 200, 4).tolist()
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        wide = Image.fromarray(image).resize((new_width, height), Image.Resampling.BILINEAR)
        expected = np.asarray(wide.resize((new_width, new_height), Image.Resampling.BILINEAR))
        assert (resize_bilinear(image, new_height, new_width) == expected).all()


def test_one_call_of_pillow_differs_by_one_at_most() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (247, 191, 3), dtype=np.uint8)
    whole = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BILINEAR))
    assert np.abs(resize_bilinear(image, 224, 224).astype(int) - whole).max() <= 1


def test_without_antialiasing_enlarging_is_the_same_and_shrinking_looks_at_two_pixels() -> None:
    image = random_images(1, 40)[0]
    assert (resize_bilinear(image, 64, 80, antialias=False) == resize_bilinear(image, 64, 80)).all()
    stripes = np.zeros((1, 64, 3), np.uint8)
    stripes[:, ::8] = 255  # every eighth column: aliased away or averaged
    assert (resize_bilinear(stripes, 1, 8, antialias=False) == 0).all()
    assert (np.abs(resize_bilinear(stripes, 1, 8).astype(int) - 32) <= 12).all()  # the outermost see less


def test_image_of_crops_resizes_windows_and_flips_in_this_order() -> None:
    stored = random_images(1, 60)[0]
    plan = make_plan(
        crop=np.array([[5, 10, 40, 30]]),
        resize=np.array([[36, 40]]),
        window=np.array([[2, -3]]),
        flip=np.array([True]),
    )
    spec = OutputSpec(image_size=32, batch_size=1, whole_image=True, **UNIT)
    resized = resize_bilinear(stored[5:45, 10:40], 36, 40)
    expected = np.zeros((32, 32, 3), np.uint8)
    expected[:, 3:] = resized[2:34, :29]
    assert (image_of(stored, plan, 0, spec) == expected[:, ::-1]).all()


@pytest.mark.parametrize(("top", "left"), [(0, 0), (-4, 3), (4, -4), (-40, 0), (40, 40), (33, -31)])
def test_a_window_outside_the_image_is_zero(top: int, left: int) -> None:
    image = random_images(1)[0]
    padded = np.pad(image, ((64, 64), (64, 64), (0, 0)))
    assert (window_of(image, top, left, 32) == padded[64 + top : 96 + top, 64 + left : 96 + left]).all()


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16", "bfloat16"])
def test_patches_are_gathered_normalised_and_blanked(dtype: str) -> None:
    images = random_images(3)
    scale, bias = from_statistics((100, 110, 120), (50, 60, 70))
    spec = OutputSpec(
        image_size=32, batch_size=3, patch_size=8, patch_count=3, whole_image=True, dtype=dtype, scale=scale, bias=bias
    )
    cells = np.array([[0, 5, 15], [3, 3, 2], [8, 9, 10]])
    hidden = np.array([[False, True, False]] * 3)
    mask = np.zeros((3, 16), np.bool_)
    mask[1, 6] = True
    output = render(images, make_plan(position=cells, hidden=hidden, mask=mask), spec, Staging(CPU))
    assert output.patches is not None
    assert output.image is not None
    assert output.patches.shape == (3, 3, 8, 8, 3)
    assert output.patches.dtype == output.image.dtype == spec.torch_dtype
    values = torch.from_numpy(images if dtype == "uint8" else normalise(images, Normalisation(scale, bias)))
    values = values.to(spec.torch_dtype)
    for row in range(3):
        for slot in (0, 2):
            y, x = divmod(int(cells[row, slot]), 4)
            assert output.patches[row, slot].equal(values[row, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8])
    assert not output.patches[:, 1].any()
    assert not output.image[1, 8:16, 16:24].any()
    values[1, 8:16, 16:24] = 0
    assert output.image.equal(values)


def _dataset_with(payload: bytes, make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> ReferenceBackend:
    """A backend whose reader hands out `payload` for sample 0: what a damaged file looks like behind checksums."""
    dataset = open_dataset(make_dataset(samples=4, shards=1, size=96, encoding="jpeg"))
    spec = OutputSpec(image_size=96, batch_size=1, whole_image=True, **UNIT)
    backend = ReferenceBackend(dataset, spec, device=CPU, verify="never")
    read = backend._reader.read

    def fake(ids: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        read(ids)
        return [np.frombuffer(payload, np.uint8)]

    monkeypatch.setattr(backend._reader, "read", fake)
    return backend


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "cannot be decoded"),
        (b"no picture at all", "cannot be decoded"),
        (encode(random_images(1, 96)[0], "jpeg")[:300], "cannot be decoded"),
        (encode(random_images(1, 48)[0], "jpeg"), "the image is 48 x 48, the sample table says 96 x 96"),
    ],
    ids=["empty", "text", "truncated", "other size"],
)
def test_an_undecodable_sample_is_named(
    payload: bytes, reason: str, make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = _dataset_with(payload, make_dataset, monkeypatch)
    backend.submit(make_plan())
    with pytest.raises(CorruptSampleError, match=reason) as error:
        backend.result()
    assert error.value.key == "000000000000"
