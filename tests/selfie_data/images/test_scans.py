"""Each scan of a JPEG costs a pass over the image: the limit holds whichever decoder is to read it."""

import pytest
from PIL import Image

from selfie_data.errors import ImageError
from selfie_data.images.decode import MAX_SCANS, count_scans, decode_image, parse_jpeg_header
from tests.material import encoded


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_thousands_of_scans_are_refused(mode: str) -> None:
    data = encoded(Image.new(mode, (32, 32)), "JPEG", progressive=True)
    header = parse_jpeg_header(data)
    assert header is not None
    assert header.components == len(mode)
    assert decode_image(data).shape == (32, 32, 3)
    last = data.rindex(b"\xff\xda")
    hostile = data[:last] + data[last:-2] * (MAX_SCANS + 1) + data[-2:]
    assert count_scans(hostile) > MAX_SCANS
    with pytest.raises(ImageError, match="the limit is 200"):
        decode_image(hostile)
