"""`selfie-data build-shards`: images become a dataset."""

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from selfie_data.build.build_shards import build_shards, default_workers
from selfie_data.build.options import ENCODINGS, SHARD_BYTES, BuildOptions
from selfie_data.build.parts import Part, build_part
from selfie_data.build.workers import Engine
from selfie_data.build.workspace import listings_folder
from selfie_data.commands.place_argument import LocalPath, PlaceArgument
from selfie_data.commands.telling import build_and_tell, reporter_for, stopped_in_one_line, tell_estimate
from selfie_data.dataset.manifest import Manifest
from selfie_data.errors import OptionError
from selfie_data.images.decode import LARGEST_MAX_PIXELS, MAX_PIXELS
from selfie_data.notices import notices_of, say
from selfie_data.source import ImageSource
from selfie_data.sources import KINDS, open_source
from selfie_data.storage.place import Place

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


class Bytes(click.ParamType[int]):
    """A number of bytes, with a unit if wanted: 268435456, 256MiB, 1GB."""

    name = "BYTES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip().lower().removesuffix("b")
        digits = text.rstrip("kmgi")
        try:
            return int(float(digits) * _UNITS[text[len(digits) :]])
        except (ValueError, KeyError, OverflowError):
            self.fail(f"a size is a number with an optional unit, such as 256MiB or 1GB, got {value!r}", param, ctx)


class RestartBlocks(click.ParamType[int | str]):
    """A number of MCUs, or `auto`."""

    name = "BLOCKS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        text = str(value).strip().lower()
        if text == "auto" or (text.isascii() and text.isdigit()):
            return text if text == "auto" else int(text)
        self.fail(f"restart markers are every so many MCUs, auto or 0 (none), got {value!r}", param, ctx)


class PartArgument(click.ParamType[Part]):
    """`I/N` on the command line."""

    name = "part"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Part:
        if isinstance(value, Part):
            return value
        try:
            return Part.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_PATH = LocalPath()

workers_option = click.option(
    "--workers", type=click.IntRange(1), default=default_workers, show_default="all cores", help="Processes."
)


@click.command("build-shards")
@click.argument("source", metavar="SOURCE", type=click.Choice(KINDS))
@click.argument("out", type=PlaceArgument())
@click.option("--root", help="Archive or folder to read, or its URL; for `tar` also a brace list of shards.")
@click.option(
    "--split",
    default="train",
    show_default=True,
    metavar="NAME",
    help="Part of the dataset: train, val or test; Parquet, tables: any split by its name, or all.",
)
@click.option("--labels", default="fine", show_default=True, type=click.Choice(["fine", "coarse"]), help="CIFAR-100's.")
@click.option("--label-column", metavar="NAME", help="Parquet, tables: the column of the labels.")
@click.option("--image-column", metavar="NAME", help="Parquet, tables: the column of the images or of their paths.")
@click.option("--split-column", metavar="NAME", help="Parquet, tables: the column that says which split a row is of.")
@click.option("--config", metavar="NAME", help="Parquet: one of several configurations, or a folder of --root.")
@click.option(
    "--class-level",
    type=click.IntRange(min=1),
    help="Folder, tar: which folder of an image's path is its class, 1 for the first.  [default: the innermost that "
    "tells images apart]",
)
@click.option("--subtree", help="Folder, tar: only what lies below this path, such as cifar10/train.")
@click.option("--table", type=_PATH, help="Folder: CSV or TSV of path,label that says which images there are.")
@click.option("--synsets", type=_PATH, help="ImageNet validation: one WNID a line, in the order of the images' names.")
@click.option("--ground-truth", type=_PATH, help="ImageNet validation: the official file of one ILSVRC2012 id a line.")
@click.option(
    "--devkit", type=_PATH, help='ImageNet validation: the official kit (folder or archive), or lines of "id WNID".'
)
@click.option(
    "--checksum/--no-checksum", default=None, help="Compare official archives with their MD5 [default: up to 1 GiB]."
)
@click.option("--classes-from", type=PlaceArgument(), metavar="DATASET", help="Use the class list of another dataset.")
@click.option(
    "--size", type=click.IntRange(8, 4096), help="Input size of the model, pixels [default: 224 for imagenet, else 32]."
)
@click.option(
    "--encoding",
    default="auto",
    show_default=True,
    type=click.Choice(ENCODINGS),
    help="auto: raw up to 64 px, else keep; keep: JPEGs that need no change as they are, "
    "without restart markers: training decodes them whole, and decoding takes 1.4 times as long; png: lossless.",
)
@click.option(
    "--restart-blocks",
    type=RestartBlocks(),
    metavar="auto|N|0",
    help="Restart markers in stored JPEGs, so that training decodes the part of an image that it crops: every so many "
    "MCUs at most, auto: 32 to 64 pixels, 0: none [default: auto for the encodings auto and jpeg above 64 px].",
)
@click.option("--quality", default=90, show_default=True, type=click.IntRange(1, 100), help="Of JPEGs encoded anew.")
@click.option(
    "--resize-shorter",
    type=click.IntRange(0),
    metavar="PIXELS",
    help="Shrink larger images to this shorter side; 0: never [default: size * 8 / 7; size for raw].",
)
@click.option(
    "--shard-bytes",
    type=Bytes(),
    default=SHARD_BYTES,
    show_default="64MiB",
    help="Size of a shard, about; small sets get smaller ones.",
)
@click.option("--samples-per-shard", type=click.IntRange(1), help="Exact number instead of --shard-bytes.")
@click.option(
    "--block-bytes",
    type=Bytes(),
    help="Plan by blocks: about so many bytes of neighbours stay together and are read by few requests, a spool from "
    "the bucket itself; 0: every image goes anywhere [default: 16MiB for tars and Parquet of a bucket, else 0].",
)
@workers_option
@click.option(
    "--engine",
    default="processes",
    show_default=True,
    type=click.Choice(["processes", "ray"]),
    help="What builds the shards: processes of this machine, or a Ray cluster. Does not change any byte.",
)
@click.option(
    "--ray-address",
    metavar="HOST:PORT",
    help="The Ray cluster [default: RAY_ADDRESS, else the one this machine is part of, else a new one here].",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, (1 << 64) - 1), help="Of the shuffle.")
@click.option("--limit", type=click.IntRange(1), help="Use only so many images, a random part [default: all].")
@click.option(
    "--max-pixels",
    type=click.IntRange(1, LARGEST_MAX_PIXELS),
    default=MAX_PIXELS,
    show_default=True,
    help="Images of more are not used; JPEGs that are shrunk to a half or less may have four times as many.",
)
@click.option(
    "--on-error",
    default="quarantine",
    show_default=True,
    type=click.Choice(["quarantine", "fail"]),
    help="An image that cannot be used is left out and recorded, or ends the build.",
)
@click.option(
    "--part",
    type=PartArgument(),
    metavar="I/N",
    help="Build the shards of part I of N only, for job arrays; 0/N lists, spools and plans for the others; "
    "`selfie-data finish OUT` ends the build.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be written and how long it takes; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Progress and result as JSON lines.")
def command(**given: Any) -> None:
    """Packs the images of SOURCE into checked, shuffled WebDataset shards in the folder OUT, or in a bucket by its URL.

    SOURCE is cifar10, cifar100, imagenet32, imagenet, folder, parquet, tar or synthetic.

    A build that was interrupted goes on when the same command is given again; its bytes depend on the source, the
    options and the codecs' versions only.
    """
    engine = _engine(given["engine"], given["ray_address"])
    if engine is not None and given["part"] is not None:
        raise click.UsageError(
            "--part is for job arrays, whose jobs build by themselves; --engine ray builds all: give one"
        )
    size = given["size"] or (224 if given["source"] == "imagenet" else 32)
    try:
        options = BuildOptions(size=size, **{name: given[name] for name in _BUILD_OPTIONS})
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    classes = given["classes_from"]
    class_names = None if classes is None else Manifest.load(classes).class_names
    try:
        source = open_source(
            given["source"],
            given["root"],
            classes=class_names,
            size=size,
            listings=None if given["dry_run"] else listings_folder(given["out"]),
            **{name: given[name] for name in SOURCE_OPTIONS},
        )
    except (OptionError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    refuse_inside(given["source"], given["root"], given["out"])
    if given["dry_run"]:
        tell_estimate(source, options, workers=given["workers"], as_json=given["as_json"])
        return
    if given["part"] is not None:
        _build_part(source, given["out"], options, given["part"], workers=given["workers"], as_json=given["as_json"])
        return
    known = () if source.spool_bytes else notices_of(source).summary()  # else when it is spooled
    if known and not given["as_json"]:
        click.echo(say(known), err=True)
    workers = None if engine else given["workers"]
    build_and_tell(
        lambda reporter: build_shards(source, given["out"], options, workers=workers, engine=engine, progress=reporter),
        given["out"],
        said=known,
        as_json=given["as_json"],
    )


def _engine(name: str, address: str | None) -> Engine | None:
    if name == "processes":
        if address is not None:
            raise click.UsageError("--ray-address is for --engine ray: give both")
        return None
    context = click.get_current_context()
    if context.get_parameter_source("workers") is not ParameterSource.DEFAULT:
        raise click.UsageError("a Ray cluster has as many workers as CPUs: leave out --workers")
    from selfie_data.build.ray_engine import run_ray

    return partial(run_ray, address=address)


def refuse_inside(kind: str, root: str | None, out: Place) -> None:
    """Refuses an output folder inside a folder that is read as a whole: the next build would find its own shards."""
    if kind not in ("folder", "imagenet", "parquet") or root is None or not isinstance(out, Path):
        return
    source = Path(root).resolve()
    if source.is_dir() and source in out.resolve().parents:
        raise click.UsageError(
            f"{out} lies inside the source {root}, which the next build would read: choose a folder outside"
        )


def _build_part(
    source: ImageSource, out: Place, options: BuildOptions, part: Part, *, workers: int, as_json: bool
) -> None:
    logging.getLogger("selfie_data").setLevel(logging.INFO)
    with stopped_in_one_line(out):
        status = build_part(source, out, options, part, workers=workers, progress=reporter_for(as_json=as_json))
    if as_json:
        facts = {"part": str(part), "shards": status.shards, "built": status.built, "finished": status.finished}
        click.echo(json.dumps({"event": "part", **facts}))
        return
    rest = "the dataset is finished" if status.finished else f"when all are there: selfie-data finish {out}"
    done = "is built" if part.index else "has planned"
    click.echo(f"{out}: part {part} {done}, {status.built} of {status.shards} shards are there; {rest}")


SOURCE_OPTIONS = (
    "split",
    "labels",
    "label_column",
    "image_column",
    "split_column",
    "config",
    "subtree",
    "class_level",
    "table",
    "synsets",
    "ground_truth",
    "devkit",
    "limit",
    "seed",
    "checksum",
)
_BUILD_OPTIONS = (
    "encoding",
    "restart_blocks",
    "quality",
    "resize_shorter",
    "shard_bytes",
    "samples_per_shard",
    "block_bytes",
    "seed",
    "limit",
    "max_pixels",
    "on_error",
)
