"""Draws the pictures of the synthetic source: shapes of bars and discs, in integers, a batch at a time.

    pixel (row, column) -> shape's coordinates (u, v) -> signed distance to its edge -> coverage 0..256
    value = background + coverage * (shape - background) + clutter + shading + noise

All arithmetic is int32 (sums stay below 2**24), so the bytes are the same on every machine.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from selfie_data.randomness.philox import Purpose, draw_words

_SHAPE_STREAM, _NOISE_STREAM = 0, 1  # the `epoch` of the draws: one for what is drawn, one for the noise on it
_SHAPE_BLOCKS = 3
_UNIT = 1024  # half the shape's size
_TILT = 12  # rotation by 2 * atan(k / 64), k = -12..12: up to 21 degrees, with cosine and sine rational in k

Ints = NDArray[np.int32]

# Shapes: signed distances, positive inside, in units of 1/1024 of half the shape's size; v points down.


def _bar(u: Ints, v: Ints, x: int, y: int, half_width: int, half_height: int) -> Ints:
    distance: Ints = np.minimum(half_width - np.abs(u - x), half_height - np.abs(v - y))
    return distance


def _disc(u: Ints, v: Ints, x: int, y: int, radius: int) -> Ints:
    """Exact at the edge, where it matters; first order elsewhere."""
    distance: Ints = (radius * radius - (u - x) ** 2 - (v - y) ** 2) // (2 * radius)
    return distance


def _union(*distances: Ints) -> Ints:
    union = distances[0]
    for distance in distances[1:]:
        union = np.maximum(union, distance)
    return union


def _triangle(u: Ints, v: Ints) -> Ints:
    side = ((v + 950 - 2 * np.abs(u)) * 458) >> 10  # 458 / 1024 = 1 / sqrt(5)
    distance: Ints = np.minimum(850 - v, side)
    return distance


SHAPES: Mapping[str, Callable[[Ints, Ints], Ints]] = {
    "arch": lambda u, v: _union(_bar(np.abs(u), v, 720, 0, 200, 930), _bar(u, v, 0, -730, 920, 200)),
    "cross": lambda u, v: _union(_bar(u, v, 0, 0, 220, 980), _bar(u, v, 0, 0, 980, 220)),
    "frame": lambda u, v: np.minimum(_bar(u, v, 0, 0, 900, 900), -_bar(u, v, 0, 0, 520, 520)),
    "quad": lambda u, v: _disc(np.abs(u), np.abs(v), 580, 580, 370),
    "ring": lambda u, v: np.minimum(_disc(u, v, 0, 0, 960), -_disc(u, v, 0, 0, 560)),
    "stack": lambda u, v: _union(_bar(u, v, 0, 0, 930, 185), _bar(u, np.abs(v), 0, 740, 930, 185)),
    "table": lambda u, v: _union(_bar(u, v, 0, -720, 950, 230), _bar(u, v, 0, 100, 230, 870)),
    "triangle": _triangle,
    "trio": lambda u, v: _union(_disc(u, v, 0, -520, 410), _disc(np.abs(u), v, 540, 470, 410)),
    "twins": lambda u, v: _bar(np.abs(u), v, 570, 0, 230, 950),
}
"""The classes in order, by name: (u, v) -> signed distance. Each is its own mirror image: a flip keeps the class."""


def draw_shapes(seed: int, ids: NDArray[np.int64], shapes: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """Draws a batch of pictures, each a pure function of (seed, id, shape, size).

    Args:
        seed: 0 <= seed < 2**64.
        ids: [B], what the draws of a picture are keyed by.
        shapes: [B] positions in `SHAPES`, ascending: each run of equal ones is computed as one slice.
        size: height and width S, pixels.

    Returns:
        uint8 [B, S, S, 3].
    """
    words = draw_words(seed, _SHAPE_STREAM, ids, Purpose.SYNTHETIC, _SHAPE_BLOCKS)
    octets = ((words[..., None] >> np.arange(0, 32, 8, dtype=np.uint32)) & np.uint32(255)).astype(np.int32)
    halves = octets[..., ::2] + (octets[..., 1::2] << 8)  # [B, word, 2], 0..65535
    base = octets[:, 0, :3]
    covered = _shape_coverage(halves[:, 3:6], shapes, size)
    # The shape is 64 to 191 lighter or darker than the background in every channel, so no class is known by colour.
    layers = [(covered, ((base + 64 + (octets[:, 1, :3] >> 1)) & 255) - base)]
    uncovered = 256 - covered
    for word in (6, 8):
        coverage = _clutter_coverage(halves[:, word], octets[:, word + 1, 3], size)
        layers.append(((coverage * uncovered) >> 8, octets[:, word + 1, :3] - base))
    layers.append((_shading(octets[:, 10, :2], size), (octets[:, 2, :3] - 128) >> 1))
    value = np.empty(covered.shape, dtype=np.int32)
    noise = _noise(seed, ids, octets[:, 0, 3] >> 3, size)
    pictures = np.empty((*covered.shape, 3), dtype=np.uint8)
    term = np.empty_like(value)
    for channel in range(3):
        np.add(noise, base[:, channel, None, None] << 8, out=value)
        for coverage, change in layers:
            np.multiply(coverage, change[:, channel, None, None], out=term)
            value += term
        value >>= 8
        np.clip(value, 0, 255, out=value)
        pictures[..., channel] = value
    return pictures


def _shape_coverage(draws: Ints, shapes: NDArray[np.int64], size: int) -> Ints:
    """Places, scales, stretches and tilts the shapes; coverage [B, S, S] in 0..256."""
    centre = 512 + (((draws[:, 0] - 32768) * 200) >> 16)  # of an image 1024 wide: 412..611
    half = 310 + ((draws[:, 1, 0] * 100) >> 16)  # 310..409
    stretch = 1024 + (((draws[:, 1, 1] - 32768) * 300) >> 16)  # root of width / height, 874..1173 of 1024
    tilt = ((draws[:, 2, 0] * (2 * _TILT + 1)) >> 16) - _TILT
    norm = 64 * 64 + tilt * tilt
    cosine, sine = ((64 * 64 - tilt * tilt) << 10) // norm, ((128 * tilt) << 10) // norm
    inverse_width, inverse_height = (_UNIT << 20) // (half * stretch), (_UNIT * stretch) // half
    # 1024 image units are S pixels; u and v are sums of a part by column and a part by row.
    column = _pixel_centres(size) - centre[:, 1, None]
    row = _pixel_centres(size) - centre[:, 0, None]
    u_column, u_row = (_scaled(x, t, inverse_width) for x, t in ((column, cosine), (row, sine)))
    v_column, v_row = (_scaled(x, t, inverse_height) for x, t in ((column, -sine), (row, cosine)))
    u, v = u_column[:, None, :] + u_row[:, :, None], v_column[:, None, :] + v_row[:, :, None]
    distance = np.empty_like(u)
    for number, signed_distance in enumerate(SHAPES.values()):
        first, last = np.searchsorted(shapes, (number, number + 1))
        if first < last:
            distance[first:last] = signed_distance(u[first:last], v[first:last])
    return _coverage(distance, (half * size * 256) >> 10)


def _clutter_coverage(place: Ints, radius: Ints, size: int) -> Ints:
    """A small disc a picture, anywhere; coverage [B, S, S] in 0..256."""
    radii = 40 + (radius >> 2)  # of an image 1024 wide: 40..103
    centre = place >> 6
    x, y = _pixel_centres(size) - centre[:, 1, None], _pixel_centres(size) - centre[:, 0, None]
    squared = (x * x)[:, None, :] + (y * y)[:, :, None]
    # (r**2 - d**2) / 2r by a multiplication: 2**16 / 2r is exact enough for the edge of a blob.
    distance = (((radii * radii)[:, None, None] - squared) >> 4) * (((1 << 16) // (2 * radii))[:, None, None] >> 2)
    return _coverage(distance >> 10, np.full_like(radii, size * 256))


def _coverage(distance: Ints, pixels: Ints) -> Ints:
    """Turns signed distances into coverage 0..256, a ramp one pixel wide; `pixels` [B]: 256 times px in 1024 units."""
    distance *= (pixels >> 2)[:, None, None]
    distance >>= 8
    distance += 128
    return np.clip(distance, 0, 256, out=distance)


def _shading(direction: Ints, size: int) -> Ints:
    """A plane over the picture, -512..512 [B, S, S], its slope and direction drawn."""
    slope = direction * 2 - 255
    ramp = _pixel_centres(size) - 512
    x, y = ((ramp * slope[:, axis, None]) >> 9 for axis in (1, 0))
    return x[:, None, :] + y[:, :, None]


def _noise(seed: int, ids: NDArray[np.int64], amplitude: Ints, size: int) -> Ints:
    """Gray noise a pixel, uniform within `amplitude` [B] (0..31) either way, times 256: [B, S, S]."""
    blocks = -(-size * size // 16)
    words = draw_words(seed, _NOISE_STREAM, ids, Purpose.SYNTHETIC, blocks)
    octets = words.astype("<u4", copy=False).view(np.uint8)[:, : size * size].reshape(-1, size, size)
    return (octets.astype(np.int32) - 128) * (amplitude[:, None, None] * 2)


def _pixel_centres(size: int) -> Ints:
    """Centres of the pixels of a row in an image 1024 wide: [S]."""
    return ((np.arange(size, dtype=np.int32) * 2 + 1) * 512) // size


def _scaled(offsets: Ints, turn: Ints, inverse: Ints) -> Ints:
    """offset * turn / 1024 * inverse / 1024, [B, S]; rounded between, so that int32 holds it."""
    return (((offsets * turn[:, None]) >> 10) * inverse[:, None]) >> 10
