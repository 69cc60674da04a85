"""Restart markers change no coefficient; what cannot take them stays as it is."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from selfie_data.images import jpeg_restarts
from selfie_data.images.jpeg_restarts import MAX_GROWTH, insert_restarts, restart_intervals
from selfie_data.images.jpeg_scan import read_scan
from tests.material import jpeg, picture


def by_simplejpeg(data: bytes) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False)
    return pixels


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        return np.asarray(image)


def jpegtran(data: bytes, *options: str) -> bytes:
    """Returns what libjpeg-turbo's lossless tool makes of a file."""
    if shutil.which("jpegtran") is None:
        pytest.skip("jpegtran of libjpeg-turbo is not installed (Debian: libjpeg-turbo-progs)")
    return subprocess.run(["jpegtran", *options], input=data, capture_output=True, check=True).stdout


def entropy_coded(data: bytes) -> bytes:
    start = data.index(b"\xff\xda")
    return data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]


def columns_of(data: bytes) -> int:
    return read_scan(data).columns


JPEGS = st.builds(
    lambda height, width, gray, seed, options: jpeg(
        picture(height, width, seed=seed)[..., 0] if gray else picture(height, width, seed=seed), **options
    ),
    st.integers(1, 90),
    st.integers(1, 200),
    st.booleans(),
    st.integers(0, 9),
    st.fixed_dictionaries(
        {"quality": st.sampled_from((5, 60, 90, 100)), "subsampling": st.integers(0, 2), "optimize": st.booleans()}
    ),
)


@settings(deadline=None, max_examples=300)
@given(JPEGS, st.sampled_from((1, 2, 3, 5, 8, 1000)))
def test_pixels_stay_and_markers_stand_where_they_should(data: bytes, interval: int) -> None:
    found = insert_restarts(data, interval)
    columns = columns_of(data)
    assert found.reason == ""
    assert found.interval <= interval
    assert columns % found.interval == 0
    assert (by_pillow(found.data) == by_pillow(data)).all()
    assert (by_simplejpeg(found.data) == by_simplejpeg(data)).all()
    scan = read_scan(data)
    markers = [part[:1] for part in entropy_coded(found.data).split(b"\xff")[1:] if part[:1] != b"\x00"]
    count = scan.columns * scan.rows // found.interval
    assert markers == [bytes((0xD0 + number % 8,)) for number in range(count - 1)] + [b"\xd9"]
    assert insert_restarts(found.data) == (found.data, found.interval, "it has restart markers already")


@settings(deadline=None, max_examples=60)
@given(JPEGS, st.sampled_from((1, 2, 4)))
def test_jpegtran_finds_the_same_coefficients(data: bytes, interval: int) -> None:
    assert jpegtran(insert_restarts(data, interval).data) == jpegtran(data)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("interval", [1, 2, 4])
def test_bytes_are_those_of_jpegtran_where_the_tables_may_stay(
    subsampling: int, interval: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jpeg_restarts, "_WORTH", 1)  # no table is worth being replaced
    data = jpeg(picture(130, 256, seed=interval), subsampling=subsampling)
    expected = jpegtran(data, "-restart", f"{interval}B")
    assert entropy_coded(insert_restarts(data, interval).data) == entropy_coded(expected)


@pytest.mark.parametrize("sampling", ["444", "422", "420", "440", "411", "Gray"])
def test_every_sampling_takes_markers(sampling: str) -> None:
    pixels = picture(70, 190, seed=3)
    space = "Gray" if sampling == "Gray" else "RGB"
    pixels = np.ascontiguousarray(pixels[:, :, :1]) if sampling == "Gray" else pixels
    data = simplejpeg.encode_jpeg(pixels, colorspace=space, colorsubsampling=sampling)
    found = insert_restarts(data, 2)
    assert found.reason == ""
    assert (by_simplejpeg(found.data) == by_simplejpeg(data)).all()


def test_a_table_without_a_code_for_a_difference_gives_way_to_another() -> None:
    """A dark image and one step in it: differences are 0 or one value, those from zero others."""
    pixels = np.zeros((64, 256), np.uint8)
    pixels[:, 128:] = 8
    data = jpeg(pixels, optimize=True, quality=100)
    found = insert_restarts(data, 1)
    before, after = read_scan(data).tables, read_scan(jpegless_markers(found.data)).tables
    assert before[0] != after[0]
    assert before[0x10] == after[0x10]
    assert (by_pillow(found.data) == by_pillow(data)).all()


def jpegless_markers(data: bytes) -> bytes:
    """Returns the file with a restart interval of 0 in its header, so that `read_scan` takes it."""
    return data.replace(b"\xff\xdd\x00\x04\x00\x01", b"\xff\xdd\x00\x04\x00\x00")


def test_a_better_table_makes_up_for_part_of_the_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    data = jpeg(picture(256, 256, seed=1))
    smaller = insert_restarts(data, 4)
    monkeypatch.setattr(jpeg_restarts, "_WORTH", 1)
    assert len(smaller.data) < len(insert_restarts(data, 4).data)


def test_metadata_stays_and_what_follows_the_image_goes() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a picture"
    data = jpeg(picture(64, 128, seed=1), exif=exif, comment=b"a remark", dpi=(300, 300), icc_profile=b"a profile")
    found = insert_restarts(data + b"\xff\xd8 more", 2).data
    with Image.open(io.BytesIO(found)) as after, Image.open(io.BytesIO(data)) as before:
        assert after.info == before.info
        assert after.info["comment"] == b"a remark"
        assert after.getexif()[0x010E] == "a picture"
        assert after.quantization == before.quantization
    assert found == insert_restarts(data, 2).data


@pytest.mark.parametrize(
    ("columns", "mcu_width", "best"),
    [
        (16, 16, 2),  # 256 px, 4:2:0
        (22, 16, 2),  # 341 px: nothing else below 176 px
        (32, 16, 2),  # 500 px
        (63, 8, 7),  # 500 px, 4:4:4
        (47, 8, 47),  # 375 px, 4:4:4: whole rows rather than 8 px
        (17, 16, 1),  # 272 px
        (1, 8, 1),
        (1, 32, 1),
    ],
)
def test_intervals_are_32_to_64_pixels_wide_where_the_columns_allow_it(columns: int, mcu_width: int, best: int) -> None:
    found = restart_intervals(columns, mcu_width)
    assert found[0] == best
    assert found[-1] == columns
    assert all(columns % interval == 0 for interval in found)


@settings(deadline=None, max_examples=100)
@given(JPEGS)
@example(jpeg(picture(38, 50, seed=0), quality=5, subsampling=1, optimize=True))  # MCUs of 16 pixels
def test_markers_cost_no_more_than_they_may(data: bytes) -> None:
    found = insert_restarts(data, "auto")
    assert len(found.data) <= (1 + MAX_GROWTH) * len(data)
    if found.interval == 0:
        assert found == (data, 0, "markers would cost more than 4%")
        scan = read_scan(data)
        tried = restart_intervals(scan.columns, scan.mcu_width)
        smallest = min(len(insert_restarts(data, interval).data) for interval in tried)
        assert smallest > (1 + MAX_GROWTH) * len(data)
    assert insert_restarts(data, 0) == (data, 0, "no markers are asked for")


def test_other_files_stay_as_they_are() -> None:
    pixels = picture(64, 128, seed=1)
    plain = jpeg(pixels)
    cmyk = io.BytesIO()
    Image.fromarray(pixels).convert("CMYK").save(cmyk, "JPEG")
    twelve = plain.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c")
    arithmetic = plain.replace(b"\xff\xc0", b"\xff\xc9")
    stuffed = plain.index(b"\xff\x00", plain.index(b"\xff\xda"))
    filled = plain[:stuffed] + b"\xff" + plain[stuffed:]  # versions of libjpeg-turbo give other pixels
    refused = {
        jpeg(pixels, progressive=True): "it is not a baseline JPEG",
        arithmetic: "it is not a baseline JPEG",
        twelve: "it has not 8 bits a sample, or its frame header is damaged",
        plain[:-2]: "it has more than one scan, or ends too early",
        plain[:-2] + plain[plain.index(b"\xff\xda") :]: "it has more than one scan, or ends too early",
        filled: "it has more than one scan, or ends too early",
        plain[:-2] + b"\xff\xff\xd9": "it has more than one scan, or ends too early",
        plain[:-300] + b"\xff\xd9": "its entropy-coded data is damaged",
        plain[:-2] + b"more\xff\xd9": "its entropy-coded data is damaged",
        b"": "its header is damaged",
        b"\xff\xd8\xff\xd9": "its header is damaged",
        b"\x89PNG": "its header is damaged",
    }
    for data, reason in refused.items():
        assert insert_restarts(data) == (data, 0, reason)
    assert insert_restarts(cmyk.getvalue(), 2).reason == ""
    assert (by_pillow(insert_restarts(cmyk.getvalue(), 2).data) == by_pillow(cmyk.getvalue())).all()


@pytest.mark.filterwarnings("ignore")
@settings(deadline=None, max_examples=500)
@given(
    JPEGS,
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from((1, 3, "auto")),
)
def test_damaged_files_give_the_same_pixels_or_stay(
    data: bytes, changes: list[tuple[int, int]], header: bool, interval: int | str
) -> None:
    damaged = bytearray(data)
    changeable = len(data) - len(entropy_coded(data)) if header else len(data)
    for place, value in changes:
        damaged[place % changeable] = value
    found = insert_restarts(bytes(damaged), interval)  # type: ignore[arg-type]
    if found.data == bytes(damaged):
        assert found.reason
        return
    for decode in (by_simplejpeg, by_pillow):
        try:
            expected = decode(bytes(damaged))
        except (ValueError, OSError, SyntaxError, Image.DecompressionBombError):
            continue
        assert (decode(found.data) == expected).all()


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=300))
def test_any_bytes_are_survived(data: bytes) -> None:
    jpeg_of_data = b"\xff\xd8" + data
    assert insert_restarts(jpeg_of_data).data == jpeg_of_data


def test_a_hostile_size_is_refused_before_memory_is_taken() -> None:
    data = jpeg(picture(64, 128, seed=1))
    place = data.index(b"\xff\xc0") + 5
    huge = data[:place] + b"\x1f\xff\x1f\xff" + data[place + 4 :]
    assert insert_restarts(huge).reason == "its entropy-coded data is damaged"
    largest = data[:place] + b"\xff\xff\xff\xff" + data[place + 4 :]
    assert insert_restarts(largest).reason == "its header is damaged, or it is too large"


@pytest.mark.real_data
def test_photographs_take_markers(real_data: Path) -> None:
    before = after = 0
    with tarfile.open(real_data / "imagenet-fullres-120.tar") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            data = file.read()
            found = insert_restarts(data)
            assert found.reason == ""
            assert (by_simplejpeg(found.data) == by_simplejpeg(data)).all()
            assert (by_pillow(found.data) == by_pillow(data)).all()
            before, after = before + len(data), after + len(found.data)
    assert after < 1.02 * before
