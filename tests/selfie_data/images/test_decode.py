"""Every kind of image file becomes the RGB pixels that Pillow decodes, upright; what cannot be used says why."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import SAMPLEFORMAT

from selfie_data.errors import ImageError
from selfie_data.images.decode import MAX_JPEG_PIXELS, MAX_PIXELS, NOT_STRICT, OF_SEVERAL_FRAMES, decode_image
from selfie_data.images.jpeg_header import read_jpeg_header
from tests.material import decoded, encoded, jpeg, picture

RGB = picture(61, 83, seed=4)


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.mark.parametrize("subsampling", [0, 1, 2], ids=["444", "422", "420"])
@pytest.mark.parametrize("quality", [30, 90, 100])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_are_decoded_as_pillow_does(subsampling: int, quality: int, progressive: bool) -> None:
    data = jpeg(RGB, subsampling=subsampling, quality=quality, progressive=progressive)
    assert np.array_equal(decoded(data), by_pillow(data))
    gray = jpeg(RGB[:, :, 0], quality=quality, progressive=progressive)
    assert np.array_equal(decoded(gray), by_pillow(gray))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_other_files_are_decoded_as_pillow_does(kind: str, mode: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(RGB).convert(mode), kind, **options)
    assert np.array_equal(decoded(data), by_pillow(data))


def test_cmyk_and_palettes() -> None:
    for image, kind in [(Image.fromarray(RGB).convert("CMYK"), "JPEG"), (Image.fromarray(RGB).convert("P"), "PNG")]:
        data = encoded(image, kind)
        assert np.array_equal(decoded(data), by_pillow(data))
    bilevel = encoded(Image.fromarray(RGB).convert("1"), "PNG")
    assert set(np.unique(decoded(bilevel))) == {0, 255}


def test_sixteen_bits_keep_their_high_byte() -> None:
    values = np.arange(0, 65_536, 16, dtype=np.uint16).reshape(64, 64)
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(decoded(encoded(Image.fromarray(values), kind))[:, :, 1], (values >> 8).astype(np.uint8))


@pytest.mark.parametrize("most", [255, 1023, 65_535])
def test_a_portable_graymap_says_its_range(most: int) -> None:
    """Bytes, ten and sixteen bits of the same picture are the same picture."""
    shares = np.linspace(0, 1, 64).reshape(8, 8)
    values = np.round(shares * most).astype(np.uint8 if most < 256 else ">u2")
    pixels = decoded(b"P5 8 8 %d\n" % most + values.tobytes())[:, :, 0]
    assert np.abs(pixels - shares * 255).max() <= 1


@pytest.mark.parametrize("value", [-1, 0, 255, 1000, 65_536, 1 << 30])
def test_integers_of_more_than_sixteen_bits_are_refused(value: int) -> None:
    """Whether white is 255, 1023, 65,535 or 2**31 - 1, nothing says; a guess makes black pictures of some."""
    with pytest.raises(ImageError, match="32-bit or signed integers, whose range is not known"):
        decoded(encoded(Image.fromarray(np.full((8, 8), value, np.int32)), "TIFF"))


def test_integers_with_a_sign_are_refused() -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), 1000, np.uint16)).save(file, "TIFF", tiffinfo={SAMPLEFORMAT: 2})
    with pytest.raises(ImageError, match="32-bit or signed integers, whose range is not known"):
        decoded(file.getvalue())


def test_transparency_is_laid_on_white() -> None:
    alpha = np.full((61, 83, 1), 255, np.uint8)
    alpha[:, 40:] = 0
    pixels = decoded(encoded(Image.fromarray(np.concatenate((RGB, alpha), axis=2)), "PNG"))
    assert np.array_equal(pixels[:, :40], RGB[:, :40])
    assert (pixels[:, 40:] == 255).all()
    indexed = Image.new("P", (4, 4))
    indexed.putpalette([9, 9, 9])
    assert (decoded(encoded(indexed, "PNG", transparency=0)) == 255).all()


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        for count in (1, 2, 3):
            data = encoded(frames[0], kind, save_all=True, append_images=frames[1:count], **options)
            found = decode_image(data)
            assert (found.pixels == [255, 0, 0]).all(), kind
            assert found.notices == (OF_SEVERAL_FRAMES,) * (count > 1), kind


def test_a_damaged_second_frame_does_not_matter() -> None:
    frames = [Image.fromarray(picture(40, 40, seed=seed)).quantize() for seed in (1, 2)]
    alone = encoded(frames[0], "GIF")
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    for length in range(len(alone), len(data)):
        assert np.array_equal(decoded(data[:length]), decoded(data))


def test_a_jpeg_that_the_strict_decoder_refuses_is_told() -> None:
    data = jpeg(RGB)
    scan = data.index(b"\xff\xda")
    found = decode_image(data[:scan] + b"stray" + data[scan:])
    assert found.notices == (NOT_STRICT,)
    assert found.plain is None
    assert np.array_equal(found.pixels, decoded(data))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_orientation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(RGB), kind, exif=exif)
    assert np.array_equal(decoded(data), by_pillow(data))
    assert (decode_image(data).plain is not None) == (kind == "JPEG" and orientation == 1)


def test_a_jpeg_may_be_decoded_small_when_it_will_be_shrunk() -> None:
    data = jpeg(picture(800, 1200, seed=3))
    assert decoded(data, shorter_side=32).shape == (100, 150, 3)
    assert decoded(data, shorter_side=256).shape == (800, 1200, 3)
    assert decoded(data, shorter_side=200).shape == (400, 600, 3)
    small = np.asarray(Image.fromarray(decoded(data)).resize((600, 400), Image.Resampling.BOX)).astype(float)
    assert np.abs(decoded(data, shorter_side=200) - small).mean() < 2


def test_a_png_named_jpeg_is_decoded() -> None:
    data = encoded(Image.fromarray(RGB), "PNG")
    assert read_jpeg_header(data) is None
    assert np.array_equal(decoded(data), RGB)


@pytest.mark.parametrize(
    ("kind", "options", "plain"),
    [
        ("RGB", {}, True),
        ("L", {}, True),
        ("CMYK", {}, False),
        ("RGB", {"progressive": True}, False),
        ("RGB", {"keep_rgb": True}, False),
    ],
    ids=["colour", "gray", "cmyk", "progressive", "rgb"],
)
def test_plain_jpegs_are_told_by_their_header(kind: str, options: dict[str, object], plain: bool) -> None:
    header = read_jpeg_header(encoded(Image.fromarray(RGB).convert(kind), "JPEG", **options))
    assert header is not None
    assert (header.height, header.width, header.is_plain) == (61, 83, plain)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\x89PNG", b"\xff\xd8\xff\xe0\x00\x00" * 9])
def test_what_is_no_jpeg_has_no_header(data: bytes) -> None:
    assert read_jpeg_header(data) is None


def test_headers_cut_anywhere_do_not_raise() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = jpeg(RGB, exif=exif)
    for length in range(len(data)):
        read_jpeg_header(data[:length])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not an image of a known format"),
        (b"hello", "not an image of a known format"),
        (jpeg(RGB)[:400], "cannot be decoded: "),
        (encoded(Image.fromarray(RGB), "PNG")[:400], "cannot be decoded: "),
        (encoded(Image.fromarray(RGB.astype(np.float32)[:, :, 0]), "TIFF"), "floating-point"),
    ],
    ids=["empty", "text", "cut jpeg", "cut png", "float"],
)
def test_what_cannot_be_used_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        decoded(data)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)


def test_damaged_files_never_raise_anything_else() -> None:
    rng = np.random.default_rng(0)
    files = [jpeg(RGB), jpeg(RGB, progressive=True)]
    files += [encoded(Image.fromarray(RGB), kind) for kind in ("PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")]
    for data in files:
        for _ in range(40):
            damaged = bytearray(data)
            for place in rng.integers(0, len(data), 8):
                damaged[place] = rng.integers(0, 256)
            try:
                pixels = decoded(bytes(damaged[: rng.integers(1, len(data) + 1)]))
            except ImageError:
                continue
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 3


def bomb_png(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that says it is this large."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def bomb_jpeg(width: int, height: int) -> bytes:
    data = bytearray(jpeg(RGB))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [bomb_png(50_000, 50_000), bomb_png(5000, 5000), bomb_jpeg(50_000, 50_000), bomb_jpeg(9000, 9000)],
    ids=["png", "png above our limit", "jpeg", "jpeg above our limit"],
)
def test_decompression_bombs_are_refused_unread(data: bytes) -> None:
    with pytest.raises(ImageError, match="too large"):
        decoded(data)
    with pytest.raises(ImageError, match="too large"):
        decoded(data, shorter_side=32)


def test_a_large_photograph_is_decoded_only_to_be_shrunk() -> None:
    assert MAX_PIXELS < 6000 * 8000 < MAX_JPEG_PIXELS
    data = jpeg(np.zeros((6000, 8000, 3), np.uint8))
    with pytest.raises(ImageError, match="too large: 8000 x 6000 pixels to decode at 1/1"):
        decoded(data)
    assert decoded(data, shorter_side=256).shape == (750, 1000, 3)


@pytest.mark.parametrize("kind", ["alpha", "progressive"])
def test_the_largest_images_fit_a_worker(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "large"
    if kind == "alpha":
        Image.new("RGBA", (4096, 4096), "red").save(path, "PNG", compress_level=1)
    else:
        Image.new("RGB", (8192, 8192), "red").save(path, "JPEG", progressive=True)
    code = (
        "import sys;"
        "from selfie_data.build.options import BuildOptions; from selfie_data.source import SourceImage;"
        "BuildOptions(size=224).encoder(SourceImage('x', open(sys.argv[1], 'rb').read()));"
        "print(open('/proc/self/status').read())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    peak = next(line for line in done.stdout.splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) < 400 << 10  # KiB


def test_a_jpeg_of_thousands_of_scans_is_refused() -> None:
    data = jpeg(RGB, progressive=True)
    start = data.index(b"\xff\xda")
    with pytest.raises(ImageError, match="a JPEG of 310 scans"):
        decoded(data[:start] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" * 300 + data[start:])


def test_real_photographs_are_decoded_as_pillow_does(real_data: Path) -> None:
    import tarfile

    with tarfile.open(real_data / "imagenet-fullres-120.tar") as archive:
        members = [member for member in archive if member.isfile()][:24]
        for member in members:
            data = archive.extractfile(member).read()  # type: ignore[union-attr]
            assert np.array_equal(decoded(data), by_pillow(data)), member.name
