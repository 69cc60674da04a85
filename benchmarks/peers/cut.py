"""The per-batch work of peers whose users write it themselves: decode, crop, resize, flip, cut, normalise.

Written as a careful user would who knows the fast libraries: libjpeg-turbo through simplejpeg, PyTorch's uint8
antialiased resize (twice Pillow's speed, equal to it within 1) or OpenCV's linear one, all draws of a batch at once,
one gather, and a normalisation that is one `addcmul` over rows (13x faster than NumPy's broadcast over channels).
"""

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.work import MEAN, STD, Task

Pixels = NDArray[np.uint8]
_LOG_ASPECT = math.log(4 / 3)


def one_thread() -> None:
    """Keeps the numeric libraries from starting threads of their own beside the workers."""
    torch.set_num_threads(1)
    try:
        import cv2
    except ImportError:
        return
    cv2.setNumThreads(0)


def make_batch(encoded: Sequence[bytes | Pixels], task: Task, rng: np.random.Generator) -> torch.Tensor:
    """[B] stored images -> [B, N, p, p, 3] patches of `task.dtype`."""
    images = decoded(encoded, task, rng)
    count = len(images)
    images = np.where(rng.random((count, 1, 1, 1)) < 0.5, images[:, :, ::-1], images) if not task.crops else images
    order = rng.random((count, task.cells)).argsort(axis=1)
    return finish(cut(images, order, task.patch_size), task)


def decoded(encoded: Sequence[bytes | Pixels], task: Task, rng: np.random.Generator) -> Pixels:
    """[B, S, S, 3]: whole images at 32 px; random resized crops, already flipped, at 224."""
    size = task.image_size
    if not task.encoded:
        return np.frombuffer(b"".join(encoded), np.uint8).reshape(-1, size, size, 3)
    decode = decoder(task.decoder)
    out = np.empty((len(encoded), size, size, 3), np.uint8)
    for slot, payload in zip(out, encoded, strict=True):
        if task.crops:
            cropped(decode, payload, task, rng, slot)
        else:
            slot[:] = decode(payload)
    return out


def cropped(decode: Callable[[Any], Any], payload: bytes | Pixels, task: Task, rng: Any, slot: Pixels) -> None:
    """Decodes, crops, resizes and, half the time, flips one image into `slot` [S, S, 3]."""
    image = decode(payload)
    if task.decoder == "pillow":
        result = _pillow_resize(image, window(image.height, image.width, task.area, rng), task.image_size)
    else:
        top, left, height, width = window(*image.shape[:2], task.area, rng)
        part = image[top : top + height, left : left + width]
        result = RESIZE[task.quality](part, task.image_size)
    slot[:] = result[:, ::-1] if rng.random() < 0.5 else result


def window(height: int, width: int, area: tuple[float, float], rng: Any) -> tuple[int, int, int, int]:
    """Top, left, height, width of a random resized crop, as torchvision draws it."""
    for _ in range(10):
        share, log_aspect, down, across = rng.random(4).tolist()
        target = height * width * (area[0] + (area[1] - area[0]) * share)
        aspect = math.exp(_LOG_ASPECT * (2 * log_aspect - 1))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(down * (height - h + 1)), int(across * (width - w + 1)), h, w
    h = min(height, round(width * 4 / 3))
    w = min(width, round(height * 4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w


def decoder(name: str) -> Callable[[Any], Any]:
    """The function that decodes one JPEG: to an RGB array, or to a Pillow image."""
    if name == "pillow":
        from PIL import Image

        return lambda payload: Image.open(io.BytesIO(payload)).convert("RGB")
    import simplejpeg

    return lambda payload: simplejpeg.decode_jpeg(payload, fastdct=False, fastupsample=False)


def _pillow_resize(image: Any, box: tuple[int, int, int, int], size: int) -> Pixels:
    from PIL import Image

    top, left, height, width = box
    part = image.crop((left, top, left + width, top + height))
    return np.asarray(part.resize((size, size), Image.Resampling.BILINEAR))


def _torch_resize(part: Pixels, size: int) -> Pixels:
    planar = torch.from_numpy(part).permute(2, 0, 1)[None]
    done = torch.nn.functional.interpolate(planar, (size, size), mode="bilinear", antialias=True)
    return done[0].permute(1, 2, 0).numpy()


def _opencv_resize(part: Pixels, size: int) -> Pixels:
    import cv2

    return cv2.resize(part, (size, size), interpolation=cv2.INTER_LINEAR)  # type: ignore[no-any-return]


RESIZE: dict[str, Callable[[Pixels, int], Pixels]] = {"antialiased": _torch_resize, "linear": _opencv_resize}


def cut(images: Pixels, order: NDArray[np.int64], patch: int) -> Pixels:
    """[B, S, S, 3] and [B, G] -> [B, G, p, p, 3], patch k of an image being its cell `order[k]`."""
    count, side = len(images), images.shape[1] // patch
    grid = images.reshape(count, side, patch, side, patch, 3).swapaxes(2, 3)
    rows = np.arange(count)[:, None]
    return grid[rows, order // side, order % side]


def finish(patches: Pixels, task: Task) -> torch.Tensor:
    """uint8 as it is, or normalised float32."""
    result = torch.from_numpy(patches)
    if task.dtype == "uint8":
        return result
    scale, bias = (torch.from_numpy(row) for row in rows(task.patch_size))
    flat = result.view(-1, scale.numel())
    return torch.addcmul(bias, flat, scale).view(result.shape)


def rows(patch: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale and bias of a whole patch, [p * p * 3] each: x * scale + bias = (x - mean) / std."""
    mean, std = np.float32(MEAN), np.float32(STD)
    return np.tile(1 / std, patch * patch).astype(np.float32), np.tile(-mean / std, patch * patch).astype(np.float32)
