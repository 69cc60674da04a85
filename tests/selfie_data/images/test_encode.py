"""How images are stored: what is kept, what is made anew, and of what size."""

import io

import numpy as np
import pytest
from PIL import Image

from selfie_data.build.options import BuildOptions
from selfie_data.errors import BuildError, ImageError
from selfie_data.images.decode import NOT_STRICT, decode_image
from selfie_data.images.encode import Encoder, Stored
from selfie_data.images.jpeg_header import read_jpeg_header
from selfie_data.images.jpeg_scan import marked_interval
from selfie_data.images.resize import centre_crop, resize_by_pillow
from selfie_data.source import SourceImage
from tests.material import decoded, encoded, jpeg, picture


def encode(data: bytes | np.ndarray, **options: object) -> Stored:
    return BuildOptions(**options).encoder(SourceImage("name", data))  # type: ignore[arg-type]


def opened(stored: Stored) -> Image.Image:
    return Image.open(io.BytesIO(stored.payload))


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize(("height", "width"), [(256, 400), (400, 256), (100, 90), (256, 256)])
def test_plain_small_jpegs_stay_byte_for_byte(gray: bool, height: int, width: int) -> None:
    pixels = picture(height, width, seed=1)
    data = jpeg(pixels[:, :, 0] if gray else pixels)
    stored = encode(data, size=224, restart_blocks=0)
    assert stored.payload is data
    assert stored.pixels.shape == (height, width, 3)
    assert np.array_equal(stored.pixels, decoded(data))


def test_larger_jpegs_are_shrunk_antialiased() -> None:
    pixels = picture(600, 900, seed=2)
    stored = encode(jpeg(pixels), size=224)
    assert opened(stored).size == (384, 256)
    truth = np.asarray(Image.fromarray(pixels).resize((384, 256), Image.Resampling.BICUBIC)).astype(float)
    assert np.abs(decoded(stored.payload) - truth).mean() < 4
    header = read_jpeg_header(stored.payload)
    assert header is not None
    assert header.is_plain
    assert header.components == 3


def test_nothing_finer_than_the_new_grid_survives() -> None:
    """A checkerboard of single pixels turns gray; without antialiasing it would alias into patterns."""
    board = np.indices((512, 512)).sum(axis=0) % 2 * 255
    pixels = np.repeat(board.astype(np.uint8)[:, :, None], 3, axis=2)
    for size, options in ((224, {"encoding": "png"}), (32, {}), (64, {})):
        stored = encode(encoded(Image.fromarray(pixels), "PNG"), size=size, **options)
        assert stored.pixels.std() < 12
        assert abs(stored.pixels.mean() - 127.5) < 2


@pytest.mark.parametrize(
    "data",
    [
        jpeg(picture(100, 120, seed=3), progressive=True),
        encoded(Image.fromarray(picture(100, 120, seed=3)).convert("CMYK"), "JPEG"),
        encoded(Image.fromarray(picture(100, 120, seed=3)), "PNG"),
        encoded(Image.fromarray(picture(100, 120, seed=3)).convert("P"), "GIF"),
        encoded(Image.fromarray(picture(100, 120, seed=3)[:, :, 0].astype(np.uint16) << 8), "PNG"),
    ],
    ids=["progressive", "cmyk", "png", "gif", "16 bit"],
)
def test_everything_else_becomes_a_plain_jpeg_of_its_own_size(data: bytes) -> None:
    stored = encode(data, size=224)
    header = read_jpeg_header(stored.payload)
    assert header is not None
    assert header.is_plain
    assert (header.height, header.width, header.components) == (100, 120, 3)
    assert np.array_equal(stored.pixels, decoded(data))
    assert np.abs(decoded(stored.payload).astype(float) - stored.pixels).mean() < 15  # the GIF is dithered


@pytest.mark.parametrize("encoding", ["auto", "keep"])
def test_a_jpeg_that_the_strict_decoder_refuses_is_encoded_anew(encoding: str) -> None:
    data = jpeg(picture(100, 120, seed=3))
    scan = data.index(b"\xff\xda")
    stored = encode(data[:scan] + b"stray" + data[scan:], size=224, encoding=encoding)
    assert b"stray" not in stored.payload
    assert decode_image(stored.payload).plain is not None
    assert stored.notices == (NOT_STRICT,)
    assert np.array_equal(stored.pixels, decoded(data))


def test_a_turned_jpeg_is_stored_upright_without_metadata() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = jpeg(picture(100, 140, seed=5), exif=exif, comment=b"secret")
    stored = encode(data, size=224)
    assert opened(stored).size == (100, 140)
    assert b"Exif" not in stored.payload
    assert b"secret" not in stored.payload
    assert np.array_equal(stored.pixels, decoded(data))


def test_quality_and_subsampling_are_what_pillow_calls_them() -> None:
    pixels = picture(120, 120, seed=6)
    for quality in (60, 90):
        stored = encode(pixels, size=224, quality=quality)
        theirs = jpeg(pixels, quality=quality)
        assert opened(stored).quantization == Image.open(io.BytesIO(theirs)).quantization  # type: ignore[attr-defined]
        assert abs(len(stored.payload) - len(theirs)) < 100


def test_png_is_lossless() -> None:
    pixels = picture(100, 120, seed=7)
    stored = encode(encoded(Image.fromarray(pixels), "BMP"), size=224, encoding="png")
    assert opened(stored).format == "PNG"
    assert np.array_equal(decoded(stored.payload), pixels)


def test_jpeg_encodes_even_what_could_stay() -> None:
    data = jpeg(picture(100, 120, seed=8))
    assert encode(data, size=224, encoding="jpeg").payload != data


def test_never_shrinking() -> None:
    data = jpeg(picture(500, 700, seed=9))
    assert encode(data, size=224, resize_shorter=0, restart_blocks=0).payload is data
    assert encode(
        encoded(Image.fromarray(picture(500, 700, seed=9)), "PNG"), size=224, resize_shorter=0
    ).pixels.shape == (
        500,
        700,
        3,
    )


@pytest.mark.parametrize("size", [8, 32, 64])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 50), (300, 200), (31, 33), (1000, 900)])
def test_raw_is_the_centre_of_the_image_at_the_shorter_side(size: int, height: int, width: int) -> None:
    pixels = picture(height, width, seed=10)
    stored = encode(pixels, size=size)
    assert stored.payload == stored.pixels.tobytes()
    assert stored.pixels.shape == (size, size, 3)
    scale = size / min(height, width)
    whole = (max(size, int(width * scale + 1e-9)), max(size, int(height * scale + 1e-9)))
    resized = resize_by_pillow(pixels, whole[1], whole[0])
    assert np.array_equal(stored.pixels, centre_crop(resized, size))


def test_raw_of_the_right_size_is_what_pillow_decodes() -> None:
    data = jpeg(picture(32, 32, seed=11))
    assert encode(data, size=32).payload == np.asarray(Image.open(io.BytesIO(data))).tobytes()


def test_raw_without_resizing_refuses_other_sizes() -> None:
    assert encode(picture(32, 32, seed=1), size=32, resize_shorter=0).pixels.shape == (32, 32, 3)
    with pytest.raises(BuildError, match="name has 40 x 32 pixels: raw without resizing takes 32 x 32 only"):
        encode(picture(32, 40, seed=1), size=32, resize_shorter=0)


def test_raw_may_be_a_crop_of_something_larger() -> None:
    stored = encode(picture(200, 300, seed=1), size=32, resize_shorter=36)
    assert np.array_equal(stored.pixels, centre_crop(resize_by_pillow(picture(200, 300, seed=1), 36, 54), 32))


def test_extreme_shapes() -> None:
    assert encode(picture(300, 1, seed=1), size=224).pixels.shape == (300, 1, 3)
    assert encode(picture(1, 2000, seed=1), size=32).pixels.shape == (32, 32, 3)
    assert encode(picture(300, 6000, seed=1), size=224).pixels.shape == (256, 5120, 3)


def test_a_bad_image_is_an_image_error() -> None:
    with pytest.raises(ImageError):
        encode(b"nothing", size=224)


def test_defaults_are_resolved() -> None:
    assert BuildOptions(size=32).encoder == Encoder(encoding="raw", size=32, shorter_side=32, quality=90)
    assert BuildOptions(size=64).encoder.encoding == "raw"
    assert BuildOptions(size=65).encoder.encoding == "keep"
    assert BuildOptions(size=224).encoder == Encoder(
        encoding="keep", size=224, shorter_side=256, quality=90, restart_blocks="auto"
    )
    assert BuildOptions(size=32, encoding="jpeg").encoder.shorter_side == 36


def test_restart_markers_change_no_pixel_and_are_told() -> None:
    kept, large = jpeg(picture(200, 256, seed=1)), jpeg(picture(500, 700, seed=9))
    for data, options in ((kept, {}), (large, {}), (kept, {"encoding": "jpeg"})):
        plain, marked = encode(data, size=224, restart_blocks=0, **options), encode(data, size=224, **options)
        assert np.array_equal(decoded(marked.payload), decoded(plain.payload))
        assert (plain.interval, marked.reason) == (0, "")
        assert marked.interval == marked_interval(marked.payload) > 0
        assert len(marked.payload) <= 1.04 * len(plain.payload)
    progressive = jpeg(picture(100, 90, seed=1), progressive=True)
    assert encode(progressive, size=224).interval > 0  # encoded anew
    own = jpeg(picture(100, 96, seed=1), restart_marker_blocks=2)
    stored = encode(own, size=224)
    assert (stored.payload, stored.interval, stored.reason) == (own, 2, "it has restart markers already")
    cut = own.replace(b"\xff\xd1", b"\xff\xd2", 1)
    assert (marked_interval(own), marked_interval(cut), marked_interval(b"no image")) == (2, 0, 0)


def test_keep_changes_no_byte() -> None:
    data = jpeg(picture(200, 256, seed=1))
    assert encode(data, size=224, encoding="keep").payload is data
