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

from benchmarks.work.material import Packed
from benchmarks.work.task import MEAN, STD, Masked, Task

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


def fetch(packed: Packed, indices: Sequence[int], task: Task) -> Sequence[Pixels] | Pixels:
    """Stored images of packed material: views of JPEGs, or for raw one copy of rows, [B, bytes]."""
    if task.encoded:
        return [packed.payload(index) for index in indices]
    return packed.data.reshape(len(packed), -1).take(indices, axis=0)


def make_batch(stored: Sequence[bytes | Pixels] | Pixels, task: Task, rng: np.random.Generator) -> torch.Tensor:
    """[B] stored images -> [B, N, p, p, 3] patches of `task.dtype`; row by row where `masked` follows."""
    import cv2

    images = decoded(stored, task, rng)
    for index in np.flatnonzero(rng.random(len(images)) < 0.5).tolist():
        cv2.flip(images[index], 1, images[index])  # five times faster than a reversed NumPy copy
    if task.visible:
        order = np.broadcast_to(np.arange(task.cells), (len(images), task.cells))
    else:
        order = rng.random((len(images), task.cells)).argsort(axis=1)
    return finish(cut(images, order, task.patch_size), task)


def masked(patches: torch.Tensor, task: Task) -> Masked:
    """Draws what is visible of [B, G, p, p, 3] where the model is, as `random_masking` of MAE's published code does.

    Source: github.com/facebookresearch/mae, models_mae.py. Patches were cut by the workers, which saves
    a copy of the image here.
    """
    noise = torch.rand(patches.shape[:2])
    shuffled = noise.argsort(dim=1)
    restore = shuffled.argsort(dim=1)
    seen = shuffled[:, : task.visible]
    mask = torch.ones_like(noise)
    mask[:, : task.visible] = 0
    rows = torch.arange(len(patches))[:, None] * task.cells
    visible = patches.flatten(0, 1).index_select(
        0, (seen + rows).flatten()
    )  # quicker than `gather` with its wide index
    return Masked(
        visible=visible.view(*seen.shape, *patches.shape[2:]),
        visible_position=seen,
        patches=patches,
        position=torch.arange(task.cells).expand(len(patches), -1),
        mask=mask.gather(1, restore),
    )


def decoded(stored: Sequence[bytes | Pixels] | Pixels, task: Task, rng: np.random.Generator) -> Pixels:
    """[B, S, S, 3], writable: whole images at 32 px, random resized crops at 224."""
    size = task.image_size
    if isinstance(stored, np.ndarray):
        return stored.reshape(-1, size, size, 3)
    if not task.encoded:
        together: Any = bytearray().join(stored)  # type: ignore[arg-type]  # arrays are buffers
        return np.frombuffer(together, np.uint8).reshape(-1, size, size, 3)
    decode = decoder(task.decoder)
    out = np.empty((len(stored), size, size, 3), np.uint8)
    for slot, payload in zip(out, stored, strict=True):
        if task.crops:
            cropped(decode, payload, task, rng, slot)
        else:
            slot[:] = decode(payload)
    return out


def cropped(decode: Callable[[Any], Any], payload: bytes | Pixels, task: Task, rng: Any, slot: Pixels) -> None:
    """Decodes, crops and resizes one image into `slot` [S, S, 3]."""
    image = decode(payload)
    if task.decoder == "pillow":
        slot[:] = _pillow_resize(image, window(image.height, image.width, task.area, rng), task.image_size)
    else:
        top, left, height, width = window(image.shape[0], image.shape[1], task.area, rng)
        part = image[top : top + height, left : left + width]
        RESIZE[task.quality](part, slot)


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


def _torch_resize(part: Pixels, slot: Pixels) -> None:
    planar = torch.from_numpy(part).permute(2, 0, 1)[None]
    done = torch.nn.functional.interpolate(planar, slot.shape[:2], mode="bilinear", antialias=True)
    slot[:] = done[0].permute(1, 2, 0).numpy()


def _opencv_resize(part: Pixels, slot: Pixels) -> None:
    import cv2

    cv2.resize(part, slot.shape[1::-1], slot, interpolation=cv2.INTER_LINEAR)


RESIZE: dict[str, Callable[[Pixels, Pixels], None]] = {"antialiased": _torch_resize, "linear": _opencv_resize}


def cut(images: Pixels, order: NDArray[np.int64], patch: int) -> Pixels:
    """[B, S, S, 3] and [B, G] -> [B, G, p, p, 3], patch k of an image being its cell `order[k]`."""
    count, side = len(images), images.shape[1] // patch
    grid = images.reshape(count, side, patch, side, patch * 3).swapaxes(2, 3)
    flat = np.ascontiguousarray(grid).reshape(count * side * side, patch * patch * 3)
    chosen = order + np.arange(count)[:, None] * side * side
    cells: Pixels = flat.take(chosen.ravel(), axis=0)
    return cells.reshape(count, side * side, patch, patch, 3)


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
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    return np.tile(1 / std, patch * patch).astype(np.float32), np.tile(-mean / std, patch * patch).astype(np.float32)
