"""One rule for how an image is turned, Pillow's, whichever decoder reads the pixels, whatever its metadata say."""

import io
import struct
import warnings
from collections.abc import Sequence
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from selfie_data.images import decode
from selfie_data.images.decode import NOT_STRICT, NOT_TURNED, Decoded, decode_image
from selfie_data.images.orientation import turn_upright
from tests.material import encoded, jpeg, picture

PLAIN = jpeg(picture(24, 40, seed=2))
FRAME, SCAN = PLAIN.index(b"\xff\xc0"), PLAIN.index(b"\xff\xda")
UPRIGHT = decode_image(PLAIN).pixels
ORIENTATION = 0x0112
BYTE, ASCII, SHORT, LONG, RATIONAL, DOUBLE = 1, 2, 3, 4, 5, 12
_CODES = {BYTE: "B", ASCII: "c", SHORT: "H", LONG: "L", DOUBLE: "d"}
XMP = b"http://ns.adobe.com/xap/1.0/\0"
ATTRIBUTE = b'<rdf:Description tiff:Orientation="%d"/>'
ELEMENT = b"<rdf:Description><tiff:Orientation>%d</tiff:Orientation></rdf:Description>"

Entry = tuple[int, int, int]  # tag, type, value


def app1(body: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", 2 + len(body)) + body


def exif(entries: Sequence[Entry], *, order: str = "<", cut: int | None = None) -> bytes:
    """An Exif segment of one directory, behind which the values lie that are longer than four bytes."""
    data = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "LH", 8, len(entries))
    place, values = 8 + 2 + 12 * len(entries) + 4, b""
    for tag, kind, number in entries:
        if kind == RATIONAL:
            value = struct.pack(order + "LL", number, 1)
        else:
            value = struct.pack(order + _CODES[kind], b"%d" % number if kind == ASCII else number)
        data += struct.pack(order + "HHL", tag, kind, 1)
        data += value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(order + "L", place + len(values))
        values += value if len(value) > 4 else b""
    return app1(b"Exif\0\0" + (data + bytes(4) + values)[:cut])


def xmp(form: bytes, value: int) -> bytes:
    return app1(XMP + b"<x:xmpmeta>" + form % value + b"</x:xmpmeta>")


def with_segments(front: Sequence[bytes], behind: Sequence[bytes] = (), *, jfif: bool = True) -> bytes:
    """PLAIN with these segments before and behind its frame header; without JFIF's, Pillow reads Exif once more."""
    head = PLAIN[2:FRAME] if jfif else PLAIN[20:FRAME]
    return b"".join((b"\xff\xd8", *front, head, PLAIN[FRAME : FRAME + 19], *behind, PLAIN[FRAME + 19 :]))


def by_pillow(data: bytes) -> NDArray[np.uint8] | None:
    """What Pillow makes of a file, None where it raises over reading metadata; it may also fail to write them anew."""
    with warnings.catch_warnings(), patch.object(Image.Exif, "tobytes", return_value=b""):
        warnings.simplefilter("ignore")
        try:
            return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
        except Exception:
            return None


def by_both_paths(data: bytes) -> tuple[Decoded, Decoded]:
    """What is decoded, by the strict decoder and by Pillow."""
    fast = decode_image(data)
    with patch.object(decode, "_decode_strictly", return_value=None):
        return fast, decode_image(data)


def check(data: bytes) -> Decoded:
    """Checks that both paths turn the image as Pillow does, or leave it and say so, and returns what was decoded."""
    fast, slow = by_both_paths(data)
    assert np.array_equal(fast.pixels, slow.pixels)
    assert (*fast.notices, NOT_STRICT) == slow.notices
    theirs = by_pillow(data)
    if theirs is None:
        assert NOT_TURNED in fast.notices
    assert np.array_equal(fast.pixels, UPRIGHT if theirs is None else theirs)
    assert fast.plain is None or np.array_equal(fast.pixels, UPRIGHT)
    return fast


VALUES = st.integers(0, 9)
ENTRIES = st.lists(
    st.tuples(st.sampled_from((ORIENTATION, 0x010F, 0x011A)), st.sampled_from((*_CODES, RATIONAL)), VALUES), max_size=3
)
EXIF = st.builds(exif, ENTRIES, order=st.sampled_from("<>"), cut=st.none() | st.integers(0, 60))
USUAL = st.builds(
    lambda kind, value, order: exif([(ORIENTATION, kind, value)], order=order),
    st.sampled_from((SHORT, LONG, BYTE)),
    VALUES,
    st.sampled_from("<>"),
)
SEGMENTS = st.lists(
    st.one_of(
        EXIF,
        USUAL,
        st.builds(xmp, st.sampled_from((ATTRIBUTE, ELEMENT)), VALUES),
        st.builds(lambda value: app1(b"http://ns.adobe.com/xmp/extension/\0" + ATTRIBUTE % value), VALUES),
        st.builds(lambda body: app1(b"Exif\0\0" + body), st.binary(max_size=40)),
        st.builds(app1, st.binary(max_size=20)),
        st.builds(lambda body: b"\xff\xfe" + struct.pack(">H", 2 + len(body)) + body, st.binary(max_size=20)),
        st.just(b"\xff"),  # a fill byte
    ),
    max_size=4,
)


@given(SEGMENTS, SEGMENTS, st.booleans())
@example([exif([(ORIENTATION, SHORT, 6)]), exif([(0x010F, SHORT, 1)])], [], True)  # the last says nothing
@example([exif([(ORIENTATION, SHORT, 6)]), exif([(ORIENTATION, SHORT, 3)])], [], True)
@example([exif([(ORIENTATION, LONG, 8)], order=">")], [], True)
@example([xmp(ATTRIBUTE, 6)], [], False)
@example([xmp(ELEMENT, 3), exif([(0x010F, SHORT, 1)])], [], True)
@example([], [exif([(ORIENTATION, SHORT, 5)])], True)
@example([exif([(ORIENTATION, SHORT, 2), (0x010F, DOUBLE, 0)])], [], True)  # Pillow turns it, but cannot write it
@example([app1(b"Exif\0\0nonsense"), xmp(ATTRIBUTE, 6)], [], False)  # Pillow: once Exif failed, XMP is not read
@example([app1(b"Exif\0\0nonsense"), xmp(ATTRIBUTE, 6)], [], True)  # Pillow raises
def test_segments_of_any_kind_and_order_turn_an_image_as_pillow_does(
    front: list[bytes], behind: list[bytes], jfif: bool
) -> None:
    check(with_segments(front, behind, jfif=jfif))


@given(SEGMENTS, SEGMENTS, st.booleans(), st.data())
def test_damaged_segments_too(front: list[bytes], behind: list[bytes], jfif: bool, data: st.DataObject) -> None:
    """Only lengths are spared, so that the strict decoder takes the file."""
    damaged = []
    for segments in (front, behind):
        damaged.append([bytearray(segment) for segment in segments])
        for segment in damaged[-1]:
            if len(segment) > 4 and data.draw(st.booleans()):
                segment[data.draw(st.integers(4, len(segment) - 1))] = data.draw(st.integers(0, 255))
    check(with_segments([bytes(one) for one in damaged[0]], [bytes(one) for one in damaged[1]], jfif=jfif))


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("kind", [SHORT, LONG, RATIONAL, DOUBLE])
@pytest.mark.parametrize("order", "<>")
def test_every_type_of_number_turns(value: int, kind: int, order: str) -> None:
    found = check(with_segments([exif([(ORIENTATION, kind, value)], order=order)]))
    assert np.array_equal(found.pixels, turn_upright(UPRIGHT, value))
    assert found.notices == ()


@pytest.mark.parametrize("form", [ATTRIBUTE, ELEMENT])
@pytest.mark.parametrize("behind", [False, True])
def test_xmp_alone_turns_too(form: bytes, behind: bool) -> None:
    segments = [xmp(form, 6)]
    found = check(with_segments([], segments) if behind else with_segments(segments))
    assert np.array_equal(found.pixels, turn_upright(UPRIGHT, 6))


@pytest.mark.parametrize(
    "segment",
    [
        exif([(ORIENTATION, SHORT, 0)]),
        exif([(ORIENTATION, SHORT, 9)]),
        exif([(ORIENTATION, BYTE, 6)]),
        exif([(ORIENTATION, SHORT, 6)], cut=14),
        app1(b"Exif\0\0nonsense"),
    ],
    ids=["0", "9", "byte", "cut", "garbage"],
)
@pytest.mark.parametrize("jfif", [False, True])
def test_what_cannot_be_read_is_upright_and_told(segment: bytes, jfif: bool) -> None:
    found = check(with_segments([segment], jfif=jfif))
    assert np.array_equal(found.pixels, UPRIGHT)
    assert found.notices == (NOT_TURNED,)


@pytest.mark.parametrize("segments", [[], [exif([(ORIENTATION, SHORT, 6)])]])
def test_a_file_that_pillow_refuses_is_upright_and_not_kept(segments: list[bytes]) -> None:
    """Readers of shards may be Pillow: what it does not open may not be stored as it is."""
    data = with_segments([b"\xff\x01", *segments])
    found = decode_image(data)
    assert by_pillow(data) is None
    assert np.array_equal(found.pixels, UPRIGHT)
    assert (found.plain, found.notices) == (None, (NOT_TURNED,))


def test_an_image_may_have_more_pixels_than_pillow_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    data = with_segments([exif([(ORIENTATION, SHORT, 6)])])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    assert np.array_equal(decode_image(data).pixels, turn_upright(UPRIGHT, 6))


def test_metadata_that_say_nothing_of_it_are_no_guess() -> None:
    for segments in ([exif([(0x010F, SHORT, 1)])], [exif([])], [app1(XMP + b"<x:xmpmeta/>")], [app1(b"FLIR\0")]):
        found = check(with_segments(segments))
        assert found.notices == ()
        assert found.plain is not None


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("frames", [1, 2])
def test_other_files_are_turned_as_pillow_does(kind: str, value: int, frames: int) -> None:
    tags = Image.Exif()
    tags[ORIENTATION] = value
    image = Image.fromarray(UPRIGHT)
    options = {"lossless": True} if kind == "WEBP" else {}
    more = {"save_all": True, "append_images": [image.transpose(Image.Transpose.ROTATE_180)]} if frames == 2 else {}
    data = encoded(image, kind, exif=tags, **options, **more)
    assert np.array_equal(decode_image(data).pixels, by_pillow(data))
    assert np.array_equal(decode_image(data).pixels, turn_upright(UPRIGHT, value))


def test_a_png_with_damaged_exif_is_used_and_told() -> None:
    data = encoded(Image.fromarray(UPRIGHT), "PNG", exif=b"Exif\0\0nonsense")
    assert by_pillow(data) is None
    found = decode_image(data)
    assert np.array_equal(found.pixels, UPRIGHT)
    assert found.notices == (NOT_TURNED,)
