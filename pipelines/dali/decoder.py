"""The graph that only decodes: encoded bytes -> the pixels of all images in one piece of memory.

On a GPU nvJPEG decodes (`mixed`), or libjpeg-turbo on the CPU, whose pixels are then copied.
"""

from typing import Any

from nvidia.dali import Pipeline, fn, types
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from pipelines.batch_plan import Decode

ENCODED = "encoded"

# What is stored is upright, whatever its metadata say: where they could not be read a build kept them as they were.
PIXELS: dict[str, Any] = {"output_type": types.RGB, "adjust_orientation": False}

# What nvJPEG is told on a GPU. Its hardware engine has open reports of wrong output (pytorch/vision #9606).
MIXED: dict[str, Any] = {
    "device": "mixed",
    "hw_decoder_load": 0.0,
    "jpeg_fancy_upsampling": True,  # smooth chroma, as on a CPU; else half a level off in the mean
    "affine": False,  # threads tied to cores would share them with those of the next rank
}


def build_decoder(*, batch_size: int, decode: Decode, device_id: int | None, threads: int) -> Pipeline:
    """Returns a built pipeline from ENCODED to the images, [H, W, 3] uint8 each.

    Args:
        batch_size: the largest there is.
        decode: who decodes, on a GPU.
        device_id: number of the GPU; None for the CPU.
        threads: of DALI, on the CPU.
    """
    pipeline = new_pipeline(batch_size=batch_size, device_id=device_id, threads=threads)
    with pipeline:
        encoded = fn.external_source(name=ENCODED, ndim=1, dtype=types.UINT8)
        options = MIXED if decode == "mixed" and device_id is not None else {"device": "cpu"}
        image = fn.decoders.image(encoded, **PIXELS, **options)
        pipeline.set_outputs(image.gpu() if device_id is not None and decode == "cpu" else image)
    pipeline.build()
    return pipeline


def new_pipeline(*, batch_size: int, device_id: int | None, threads: int) -> Pipeline:
    """Returns a pipeline without operators; arguments as in `build_decoder`."""
    return Pipeline(
        batch_size=batch_size,
        num_threads=threads,
        device_id=device_id,
        prefetch_queue_depth=1,  # batches that the first run takes; later ones may be scheduled at will
        exec_dynamic=True,  # outputs own their memory, so they can be handed on without a copy
        set_affinity=False,
    )


def flat(images: Any) -> Tensor:
    """Returns a list of images, of any sizes, as one tensor of bytes that shares its memory."""
    total = sum(height * width * channels for height, width, channels in images.shape())
    tensor: Tensor = from_dlpack(images.as_reshaped_tensor([total]))
    return tensor
