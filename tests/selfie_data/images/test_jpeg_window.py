"""Windows of JPEGs equal the same rectangle of the whole image; whatever is not as expected is not cut."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from selfie_data.images.jpeg_restarts import insert_restarts
from selfie_data.images.jpeg_window import ALL_NEEDED, NO_INTERVALS, UNEXPECTED, cut_window, window
from tests.material import picture
from tests.twins import jpeg_window as twin

Rectangle = tuple[int, int, int, int]
SAMPLINGS = ("444", "422", "420", "440", "411", "Gray")


def by_simplejpeg(data: bytes) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False)
    return pixels


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        return np.asarray(image.convert("RGB"))


def drawn(height: int, width: int, sampling: str, *, quality: int = 85, seed: int = 0) -> bytes:
    pixels = picture(height, width, seed=seed)
    if sampling == "Gray":
        gray = np.ascontiguousarray(pixels[:, :, :1])
        return bytes(simplejpeg.encode_jpeg(gray, quality=quality, colorspace="Gray", colorsubsampling="Gray"))
    return bytes(simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling=sampling))


def assert_same_pixels(jpeg: bytes, rectangle: Rectangle) -> int:
    """Returns the status of the window after comparing it with the image by both decoders, and with the twin."""
    top, left, height, width = rectangle
    found = window(jpeg, *rectangle)
    for decode in (by_simplejpeg, by_pillow):
        expected = decode(jpeg)[top : top + height, left : left + width]
        pixels = decode(found.data)[found.top : found.top + height, found.left : found.left + width]
        assert pixels.shape == (height, width, 3)
        assert (pixels == expected).all()
    assert tuple(found) == twin.window(jpeg, *rectangle)
    return found.status


@st.composite
def rectangles(draw: st.DrawFn, height: int, width: int) -> Rectangle:
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left))


@settings(deadline=None, max_examples=300)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 300),
    sampling=st.sampled_from(SAMPLINGS),
    interval=st.sampled_from((1, 2, 3, 4, 8, 1000)),
    data=st.data(),
)
def test_a_window_has_the_pixels_of_the_whole_image(
    height: int, width: int, sampling: str, interval: int, data: st.DataObject
) -> None:
    jpeg = insert_restarts(drawn(height, width, sampling), interval).data
    for _ in range(3):
        status = assert_same_pixels(jpeg, data.draw(rectangles(height, width)))
        assert status >= ALL_NEEDED


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(16, 200),
    subsampling=st.integers(0, 2),
    rows=st.booleans(),
    optimize=st.booleans(),
    data=st.data(),
)
def test_markers_that_pillow_writes_are_read(
    width: int, subsampling: int, rows: bool, optimize: bool, data: st.DataObject
) -> None:
    file = io.BytesIO()
    markers = {"restart_marker_rows": 1} if rows else {"restart_marker_blocks": 1}
    image = Image.fromarray(picture(90, width, seed=width))
    metadata = {"comment": b"left out", "exif": b"Exif\0\0MM"}
    image.save(file, "JPEG", subsampling=subsampling, optimize=optimize, **metadata, **markers)
    found = assert_same_pixels(file.getvalue(), data.draw(rectangles(90, width)))
    assert found >= ALL_NEEDED


@pytest.mark.parametrize("sampling", ["422", "420"])
@pytest.mark.parametrize("over", range(1, 16))
def test_chroma_at_the_right_border_is_smooth_however_narrow_the_last_mcu_is(sampling: str, over: int) -> None:
    """libjpeg enlarges one or two columns of chroma without smoothing, so such a window takes one more interval."""
    width = 64 + over
    jpeg = insert_restarts(drawn(48, width, sampling, seed=over), 1).data
    for left in range(60, width):
        assert_same_pixels(jpeg, (20, left, 3, width - left))


def test_a_rectangle_that_needs_everything_leaves_the_file_as_it_is() -> None:
    jpeg = insert_restarts(drawn(40, 160, "420"), 2).data
    assert window(jpeg, 0, 0, 40, 160) == (jpeg, 0, 0, ALL_NEEDED)
    assert window(jpeg, 10, 20, 25, 130) == (jpeg, 10, 20, ALL_NEEDED)
    assert window(jpeg, 10, 40, 25, 100).status > 0


@pytest.mark.parametrize(
    "rectangle",
    [
        *((-1, 0, 9, 9), (0, -1, 9, 9), (0, 0, 0, 9), (0, 0, 9, 0), (0, 0, 41, 9), (0, 0, 9, 161), (40, 0, 1, 1)),
        *((2**62, 2**62, 2**62, 2**62), (0, 0, 2**63 - 1, 2**63 - 1), (-(2**63), 0, 2**63 - 1, 9), (9, 160, 1, 1)),
    ],
)
def test_a_rectangle_outside_of_the_image_is_not_cut(rectangle: Rectangle) -> None:
    jpeg = insert_restarts(drawn(40, 160, "420"), 2).data
    assert window(jpeg, *rectangle) == (jpeg, *rectangle[:2], UNEXPECTED)


def test_files_without_fitting_intervals_are_not_cut() -> None:
    plain = drawn(40, 160, "420")
    assert window(plain, 0, 0, 9, 9).status == NO_INTERVALS
    marked = insert_restarts(plain, 2).data
    assert window(with_interval(marked, 3), 0, 0, 9, 9).status == NO_INTERVALS
    assert window(with_interval(marked, 1), 0, 0, 9, 9).status == UNEXPECTED
    progressive = io.BytesIO()
    Image.fromarray(picture(40, 160, seed=1)).save(progressive, "JPEG", progressive=True)
    assert window(progressive.getvalue(), 0, 0, 9, 9).status == UNEXPECTED
    empty_segments = b"\xff\xd8" + b"\xff\xe0\x00\x02" * 60
    for junk in (b"", b"\xff\xd8", b"\xff\xd8\xff" * 40, b"\xff" * 200, bytes(200), empty_segments):
        assert window(junk, 0, 0, 1, 1) == (junk, 0, 0, UNEXPECTED)


def with_interval(jpeg: bytes, interval: int) -> bytes:
    place = jpeg.index(b"\xff\xdd\x00\x04") + 4
    return jpeg[:place] + interval.to_bytes(2, "big") + jpeg[place + 2 :]


def scan_of(jpeg: bytes) -> int:
    """Returns where the entropy-coded data begins."""
    start = jpeg.index(b"\xff\xda")
    return start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big")


def test_markers_out_of_turn_missing_or_too_many_are_not_cut() -> None:
    jpeg = insert_restarts(drawn(64, 160, "420"), 2).data
    first, third = jpeg.index(b"\xff\xd0", scan_of(jpeg)), jpeg.index(b"\xff\xd2", scan_of(jpeg))
    for wrong in (
        jpeg[:first] + b"\xff\xd1" + jpeg[first + 2 :],
        jpeg[:third] + jpeg[third + 2 :],
        jpeg[:third] + b"\xff" + jpeg[third:],
        jpeg[:third] + b"\xff\xd2" + jpeg[third:],
        jpeg[:-2] + b"\xff\xd3\xff\xd9",
        jpeg[:-2],
        jpeg[: third + 2] + b"\xff\xd9",
    ):
        assert window(wrong, 0, 0, 9, 9).status == UNEXPECTED
        assert twin.window(wrong, 0, 0, 9, 9)[3] == UNEXPECTED


def test_segments_may_come_in_any_order_and_filled_up() -> None:
    jpeg = insert_restarts(drawn(64, 160, "420"), 2).data
    segments, place = [], 2
    while jpeg[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        segments.append(jpeg[place:end])
        place = end
    turned = jpeg[:2] + b"".join(b"\xff\xff" + segment for segment in segments[::-1]) + jpeg[place:]
    assert assert_same_pixels(turned, (20, 50, 30, 40)) > 0
    assert len(window(turned, 20, 50, 30, 40).data) == len(window(jpeg, 20, 50, 30, 40).data)


@pytest.mark.parametrize("transform", [0, 1])
def test_what_adobe_says_of_the_colours_stays(transform: int) -> None:
    """Without the segment, or with another transform, decoders show other colours."""
    jpeg = insert_restarts(drawn(64, 160, "444"), 2).data
    jfif = 4 + int.from_bytes(jpeg[4:6], "big")
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes((transform,))
    assert assert_same_pixels(jpeg[:2] + adobe + jpeg[jfif:], (20, 50, 30, 40)) > 0


def decoded(data: bytes) -> Iterator[NDArray[np.uint8] | None]:
    for decode in (by_simplejpeg, by_pillow):
        try:
            yield decode(data)
        except (ValueError, OSError, SyntaxError, Image.DecompressionBombError):
            yield None


@settings(deadline=None, max_examples=400)
@given(
    sampling=st.sampled_from(SAMPLINGS),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
    header=st.booleans(),
    cut=st.integers(0, 300),
    rectangle=rectangles(60, 90),
)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_gives_the_pixels_of_the_whole_or_is_not_cut(
    sampling: str, changes: list[tuple[int, int]], header: bool, cut: int, rectangle: Rectangle
) -> None:
    jpeg = bytearray(insert_restarts(drawn(60, 90, sampling), 2).data)
    changeable = scan_of(bytes(jpeg)) if header else len(jpeg)
    for place, value in changes:
        jpeg[place % changeable] = value
    damaged = bytes(jpeg[: len(jpeg) - cut // 100 * cut])
    out = np.full(len(damaged) + 64, 0xA5, np.uint8)
    size, _, _ = cut_window(np.frombuffer(damaged, np.uint8), 0, len(damaged), *rectangle, out)
    assert size <= len(damaged)
    assert (out[len(damaged) :] == 0xA5).all()
    found = window(damaged, *rectangle)
    assert tuple(found) == twin.window(damaged, *rectangle)
    assume(found.status > 0)
    top, left, height, width = rectangle
    for whole, part in zip(decoded(damaged), decoded(found.data), strict=True):
        if whole is not None:
            assert part is not None
            pixels = part[found.top : found.top + height, found.left : found.left + width]
            assert (pixels == whole[top : top + height, left : left + width]).all()


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_survived(data: bytes, begins: bool) -> None:
    jpeg = b"\xff\xd8\xff" + data if begins else data
    assert tuple(window(jpeg, 0, 0, 1, 1)) == twin.window(jpeg, 0, 0, 1, 1)


def test_a_jpeg_in_the_middle_of_a_buffer_is_read_within_its_bounds() -> None:
    jpeg = insert_restarts(drawn(64, 160, "420"), 2).data
    buffer = np.frombuffer(b"\xff\xd8" * 50 + jpeg + b"\xff\xd9" * 50, np.uint8)
    out = np.empty(len(jpeg), np.uint8)
    size, top, left = cut_window(buffer, 100, len(jpeg), 20, 50, 30, 40, out)
    expected = window(jpeg, 20, 50, 30, 40)
    assert (out[:size].tobytes(), 20 - top, 50 - left, size) == expected
    for start, length in ((-1, 900), (100, len(buffer)), (100, len(jpeg) - 1)):
        assert cut_window(buffer, start, length, 20, 50, 30, 40, np.empty(len(buffer), np.uint8))[0] == UNEXPECTED
    assert cut_window(buffer, 100, len(jpeg), 20, 50, 30, 40, out[:-1])[0] == UNEXPECTED


@pytest.mark.real_data
def test_windows_of_photographs(real_data: Path) -> None:
    rng = np.random.default_rng(7)
    cut = 0
    with tarfile.open(real_data / "imagenet-fullres-120.tar") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            jpeg = insert_restarts(file.read()).data
            whole = by_simplejpeg(jpeg)
            for _ in range(20):
                top, left = (int(rng.integers(0, side)) for side in whole.shape[:2])
                height = int(rng.integers(1, whole.shape[0] - top + 1))
                width = int(rng.integers(1, whole.shape[1] - left + 1))
                found = window(jpeg, top, left, height, width)
                pixels = by_simplejpeg(found.data)[found.top : found.top + height, found.left : found.left + width]
                assert (pixels == whole[top : top + height, left : left + width]).all()
                cut += found.status > 0
    assert cut > 2000
