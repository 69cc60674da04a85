"""Scans are counted up to the end of the image, and the end is found, whatever stands in segments or behind it."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from selfie_data.build.options import BuildOptions
from selfie_data.errors import ImageError
from selfie_data.images.decode import MAX_SCANS, OF_SEVERAL_FRAMES, decode_image, decode_stored
from selfie_data.images.encode import BEHIND_CUT_OFF, BEHIND_KEPT, Stored
from selfie_data.images.jpeg_header import JpegHeader, read_jpeg_header
from selfie_data.source import SourceImage
from tests.material import decoded, encoded, jpeg, picture

PIXELS = picture(96, 120, seed=4)
PLAIN = jpeg(PIXELS)
KINDS = {
    "baseline": PLAIN,
    "gray": jpeg(PIXELS[:, :, 0]),
    "progressive": jpeg(PIXELS, progressive=True),
    "restart markers": jpeg(PIXELS, restart_marker_blocks=1),
    "cmyk": encoded(Image.fromarray(PIXELS).convert("CMYK"), "JPEG"),
}
SCANS = {"baseline": 1, "gray": 1, "progressive": 10, "restart markers": 1, "cmyk": 1}
# A small mp4, as phones write it behind a photograph; another JPEG; many scans; an end, then more; one byte.
BEHIND = {
    "video": struct.pack(">I", 24) + b"ftypmp42\0\0\0\0isommp42" + bytes(5000),
    "jpeg": jpeg(picture(40, 40, seed=9)),
    "scans": b"\xff\xda\x00\x02" * 1000,
    "end": b"\xff\xd9\xff\xd9 padding \xff\xd9",
    "byte": b"\0",
}


def header_of(data: bytes) -> JpegHeader:
    header = read_jpeg_header(data)
    assert header is not None
    return header


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", 2 + len(body)) + body


def store(data: bytes, **options: object) -> Stored:
    return BuildOptions(size=224, **options).encoder(SourceImage("name", data))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("behind", BEHIND)
def test_an_image_ends_at_its_own_end_mark(kind: str, behind: str) -> None:
    data = KINDS[kind]
    header = header_of(data + BEHIND[behind])
    assert (header.end, header.scans) == (len(data), SCANS[kind])
    assert header == header_of(data)
    found = decode_image(data + BEHIND[behind])
    assert (found.end, found.notices) == (len(data), ())
    assert np.array_equal(found.pixels, decoded(data))


@pytest.mark.parametrize("marker", [0xE1, 0xE2, 0xED, 0xFE], ids=["thumbnail in APP1", "APP2", "APP13", "comment"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_in_a_segment_is_no_marker(kind: str, marker: int) -> None:
    """A thumbnail has scans and an end of its own; a comment may even stand between the scans."""
    inside = segment(marker, b"Exif\0\0" + jpeg(picture(30, 40, seed=9), progressive=True))
    data = KINDS[kind]
    for place in {2, data.rindex(b"\xff\xda")}:
        longer = data[:place] + inside + data[place:]
        assert (header_of(longer).end, header_of(longer).scans) == (len(longer), SCANS[kind])
        assert np.array_equal(decoded(longer + PLAIN), decoded(data))


@given(st.sampled_from(sorted(KINDS)), st.lists(st.tuples(st.integers(0xE0, 0xEF), st.binary(max_size=30)), max_size=3))
def test_the_end_is_found_behind_any_segments(kind: str, segments: list[tuple[int, bytes]]) -> None:
    data = KINDS[kind]
    longer = data[:2] + b"".join(b"\xff" + segment(*one) for one in segments) + data[2:]
    assert header_of(longer + PLAIN).end == len(longer)


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_a_file_cut_at_its_end_is_the_same_picture(kind: str, data: st.DataObject) -> None:
    """However it was damaged: what is cut off was read by no decoder that found nothing to complain of."""
    damaged = bytearray(KINDS[kind] + PLAIN)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(2, len(KINDS[kind]) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode_image(bytes(damaged))
    except ImageError:
        return
    if found.plain is not None:
        assert np.array_equal(found.pixels, decoded(bytes(damaged[: found.end])))


def test_an_image_without_an_end_mark_ends_with_its_file() -> None:
    assert header_of(PLAIN[:-2]).end == len(PLAIN) - 2
    with pytest.raises(ImageError, match="cannot be decoded"):
        decode_image(PLAIN[: len(PLAIN) // 2])


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_thousands_of_scans_are_refused(mode: str) -> None:
    data = encoded(Image.new(mode, (32, 32)), "JPEG", progressive=True)
    assert header_of(data).components == len(mode)
    assert decoded(data).shape == (32, 32, 3)
    last = data.rindex(b"\xff\xda")
    hostile = data[:last] + data[last:-2] * (MAX_SCANS + 1) + data[-2:]
    assert header_of(hostile).scans > MAX_SCANS
    with pytest.raises(ImageError, match="the limit is 200"):
        decode_image(hostile)


@pytest.mark.parametrize("behind", BEHIND)
def test_what_stands_behind_is_cut_off_or_kept_and_either_is_told(behind: str) -> None:
    data = PLAIN + BEHIND[behind]
    for encoding in ("auto", "jpeg", "png"):
        stored, clean = store(data, encoding=encoding), store(PLAIN, encoding=encoding)
        assert (stored.payload, stored.notices) == (clean.payload, (BEHIND_CUT_OFF,)), encoding
        assert clean.notices == ()
    for options in ({"encoding": "keep"}, {"restart_blocks": 0}):
        stored = store(data, **options)
        assert stored.payload is data
        assert stored.notices == (BEHIND_KEPT,)
    small = BuildOptions(size=32).encoder(SourceImage("name", data))
    assert small.notices == (BEHIND_CUT_OFF,)  # stored as pixels


def test_it_is_cut_off_where_markers_cannot_be_put_in_too() -> None:
    data = KINDS["restart markers"]
    stored = store(data + PLAIN)
    assert stored.payload == data
    assert stored.reason == "it has restart markers already"
    assert stored.notices == (BEHIND_CUT_OFF,)


def test_of_a_multi_picture_file_the_first_is_used_and_both_facts_are_told() -> None:
    second = Image.fromarray(picture(96, 120, seed=5))
    data = encoded(Image.fromarray(PIXELS), "MPO", save_all=True, append_images=[second], quality=90)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert np.array_equal(decoded(data), decoded(PLAIN))
    assert store(data).notices == (OF_SEVERAL_FRAMES, BEHIND_CUT_OFF)
    assert store(data, encoding="keep").notices == (OF_SEVERAL_FRAMES, BEHIND_KEPT)
    for stored in (store(data), store(data, encoding="keep")):
        read = decode_stored(stored.payload, encoding="jpeg", height=96, width=120)
        assert np.array_equal(read, decoded(PLAIN))


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_what_is_kept_is_read_alike_by_every_decoder(kind: str, data: st.DataObject) -> None:
    """However it was damaged."""
    damaged = bytearray(KINDS[kind])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(2, 700))
        damaged[place : place + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from((b"\xff\x01", b"\xff\xff", b"\xff\xe1\x00\x02", b"\xff\xd9", b"\xff", b"\0", b"\xda"))
        )
    try:
        stored = store(bytes(damaged), encoding="keep")
    except ImageError:
        return
    height, width = stored.pixels.shape[:2]
    read = decode_stored(stored.payload, encoding="jpeg", height=height, width=width)
    if stored.payload == damaged:
        assert np.array_equal(read, stored.pixels)
