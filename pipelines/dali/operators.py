"""The DALI operators between a batch of stored images and its patches: the same graph for CPU and GPU.

    encoded bytes -> decode -> crop -> resize -> window -> flip -> image [S, S, 3]
    image -> frames [G, p, p, 3] -> patches [N, p, p, 3]

A patch is a frame of a video: once the image is laid out as G frames, `sequence_rearrange` by the drawn cells is all of
patch sampling. Nothing here is random: DALI's own random operators depend on the batch, so crops, flips and cells
come in as small integer tensors. Of a JPEG with restart markers only the window around the crop is fed
(`jpeg_windows.py`). On a GPU nvJPEG decodes what is fed without its hardware engine, and it is cropped on the device:
that engine, and decoding a region, have open reports of wrong output or crashes (nvImageCodec #55, pytorch/vision
#9606). On a CPU only the region is decoded, to the bit the same: without markers that is 5 % faster at 256 px and 11
% at original resolution.
"""

from dataclasses import dataclass
from typing import Any

from nvidia.dali import Pipeline, fn, types

from pipelines.batch_plan import BatchPlan, OutputSpec
from pipelines.dali.decoder import ENCODED, MIXED, PIXELS, new_pipeline
from pipelines.sampling.grid import Grid

CROP, RESIZE, WINDOW, FLIP, CELLS = "crop", "resize", "window", "flip", "cells"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphInputs:
    """Which inputs a graph has besides the stored images: those of `BatchPlan` that are not None."""

    crop: bool
    resize: bool
    window: bool
    flip: bool
    cells: bool

    @classmethod
    def of(cls, plan: BatchPlan) -> "GraphInputs":
        """Returns the inputs that `plan` needs."""
        return cls(
            crop=plan.crop is not None,
            resize=plan.resize is not None,
            window=plan.window is not None,
            flip=plan.flip is not None,
            cells=plan.position is not None,
        )


def build_graph(
    spec: OutputSpec, inputs: GraphInputs, *, raw: bool, device_id: int | None, threads: int, at_size: bool = False
) -> Pipeline:
    """Returns a built pipeline that gives patches, if there are cells, and the image, if it is wanted, in this order.

    Args:
        spec: sizes and what is wanted; outputs are uint8 whatever its dtype.
        inputs: what is fed.
        raw: stored images are fed as pixels [H, W, 3], not as encoded bytes.
        device_id: number of the GPU; None for the CPU.
        threads: of DALI, on the CPU.
        at_size: all images are stored at the model's size, so that nothing is cut off where nothing is resized.
    """
    pipeline = new_pipeline(batch_size=spec.batch_size, device_id=device_id, threads=threads)
    with pipeline:
        gpu = device_id is not None
        crop = _cropped_pixels(inputs, gpu=gpu) if raw else _decoded(inputs, gpu=gpu)
        image = to_image(crop, spec, inputs, at_size=at_size)
        patches = [to_patches(image, spec)] if inputs.cells else []
        pipeline.set_outputs(*patches, *([image] if spec.whole_image else []))
    pipeline.build()
    return pipeline


def to_image(image: Any, spec: OutputSpec, inputs: GraphInputs, *, at_size: bool = False) -> Any:
    """The image [S, S, 3] uint8 that the model sees of a crop: resized, cut to S x S, mirrored."""
    size = spec.image_size
    if inputs.resize:
        target = fn.cast(_integers(RESIZE), dtype=types.FLOAT)
        image = fn.resize(
            image,
            size=target,
            interp_type=types.INTERP_LINEAR,
            antialias=spec.antialias,
            minibatch_size=spec.batch_size,  # images a launch: two launches a batch, not two for every 32 images
        )
    corner = _integers(WINDOW) if inputs.window else types.Constant([0, 0], dtype=types.INT32)
    if inputs.window or not (inputs.resize or (at_size and not inputs.crop)):
        image = fn.slice(
            image,
            corner,
            types.Constant([size, size], dtype=types.INT32),
            axes=[0, 1],
            normalized_anchor=False,
            normalized_shape=False,
            out_of_bounds_policy="pad",
            fill_values=0,
        )
    return fn.flip(image, horizontal=_integers(FLIP), vertical=0) if inputs.flip else image


def to_patches(image: Any, spec: OutputSpec) -> Any:
    """The patches [N, p, p, 3] of an image [S, S, 3]."""
    assert spec.patch_size is not None
    grid = Grid(image_size=spec.image_size, patch_size=spec.patch_size)
    side, p = grid.side, grid.patch_size
    rows = fn.reshape(image, shape=[side, p, side, 3 * p], layout="")
    frames = fn.reshape(fn.transpose(rows, perm=[0, 2, 1, 3]), shape=[grid.cells, p, p, 3], layout="FHWC")
    return fn.sequence_rearrange(frames, new_order=_integers(CELLS))


def _decoded(inputs: GraphInputs, *, gpu: bool) -> Any:
    encoded = fn.external_source(name=ENCODED, ndim=1, dtype=types.UINT8)
    if gpu:
        image = fn.decoders.image(encoded, **MIXED, **PIXELS)
        return crop_of(image) if inputs.crop else image
    if not inputs.crop:
        return fn.decoders.image(encoded, device="cpu", **PIXELS)
    corner, shape = _corner_and_shape()
    return fn.decoders.image_slice(
        encoded, corner, shape, axes=[0, 1], normalized_anchor=False, normalized_shape=False, device="cpu", **PIXELS
    )


def _cropped_pixels(inputs: GraphInputs, *, gpu: bool) -> Any:
    image = fn.external_source(name=ENCODED, ndim=3, dtype=types.UINT8, layout="HWC")
    image = image.gpu() if gpu else image
    return crop_of(image) if inputs.crop else image


def crop_of(image: Any) -> Any:
    """The crop of an image, by the input CROP."""
    corner, shape = _corner_and_shape()
    return fn.slice(image, corner, shape, axes=[0, 1], normalized_anchor=False, normalized_shape=False)


def _corner_and_shape() -> tuple[Any, Any]:
    crop = _integers(CROP)
    return crop[0:2], crop[2:4]


def _integers(name: str) -> Any:
    """An input of int32 numbers; argument inputs of operators live on the CPU on both devices."""
    return fn.external_source(name=name, ndim=0 if name == FLIP else 1, dtype=types.INT32)
