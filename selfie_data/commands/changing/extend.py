"""`selfie-data extend`: a dataset grows."""

import contextlib
from collections.abc import Iterator
from typing import Any

import click
from click.core import ParameterSource

from selfie_data.changes.extend import extend_dataset, extension_seed, options_of
from selfie_data.commands.build_shards import SOURCE_OPTIONS, refuse_inside
from selfie_data.commands.build_shards import command as build_shards
from selfie_data.commands.place_argument import PlaceArgument
from selfie_data.commands.telling import build_and_tell, tell_estimate
from selfie_data.dataset.manifest import Manifest
from selfie_data.errors import OptionError, SourceError, UnknownClassError
from selfie_data.source import ImageSource
from selfie_data.sources import KINDS, open_source
from selfie_data.sources.naming.file_names import printable

_OF_THE_BUILD = ("root", "max_pixels", "block_bytes", "on_error", "workers", "dry_run", "as_json")
_SHARED = {*SOURCE_OPTIONS, *_OF_THE_BUILD} - {"seed"}


@click.command("extend", params=[option for option in build_shards.params if option.name in _SHARED])
@click.option("--again", is_flag=True, help="Add a source once more that was the last to be added.")
@click.option("--new-classes", is_flag=True, help="Take classes that the dataset has not; they come behind its own.")
@click.argument("out", type=PlaceArgument())
@click.argument("source", metavar="SOURCE", type=click.Choice(KINDS))
def command(**given: Any) -> None:
    """Adds the images of SOURCE to the dataset OUT: new shards behind those that are there, with ids of their own.

    Nothing that was there changes but the manifest, which names its parent, and the splits, which give the new images
    their places. How images are stored is as the dataset was built. Images that it has already are not looked for.

    What was interrupted goes on when the same command is given again. Runs go on with what they began with;
    `selfie-model pretrain --resume auto --follow` takes them over.
    """
    out = given["out"]
    parent = Manifest.load(out)
    context = click.get_current_context()
    own = {name: given[name] for name in ("limit", "max_pixels", "block_bytes", "on_error")}
    if context.get_parameter_source("max_pixels") is ParameterSource.DEFAULT:
        own["max_pixels"] = None
    refuse_inside(given["source"], given["root"], out)
    with _classes_asked_for(parent):
        source = _open(parent, given)
    if given["dry_run"]:
        options, least = options_of(parent, **own), parent.shards.totals.largest
        tell_estimate(source, options, workers=given["workers"], as_json=given["as_json"], least=least)
        return
    asked = {name: given[name] for name in ("new_classes", "again", "workers")}
    with _classes_asked_for(parent):
        build_and_tell(
            lambda reporter: extend_dataset(source, out, **own, **asked, progress=reporter),
            out,
            said=parent.notices,
            quarantined=parent.shards.totals.quarantined,
            as_json=given["as_json"],
        )


@contextlib.contextmanager
def _classes_asked_for(parent: Manifest) -> Iterator[None]:
    """Says, of a class that the dataset has not, what to do: a source that is spooled knows its classes late."""
    try:
        yield
    except UnknownClassError as error:
        raise SourceError(
            f"the class {printable(error.name)!r} is none of the {len(parent.class_names)} classes of the dataset; "
            "--new-classes adds those that it has not"
        ) from error


def _open(parent: Manifest, given: dict[str, Any]) -> ImageSource:
    """Opens the source with the dataset's classes, and those behind them that it has besides."""
    options = {name: given[name] for name in SOURCE_OPTIONS if name in _SHARED}
    options |= {"size": parent.image_size, "seed": extension_seed(parent)}
    kind, root, classes = given["source"], given["root"], parent.class_names
    try:
        if not given["new_classes"]:
            return open_source(kind, root, classes=classes or None, **options)
        found = open_source(kind, root, **options).class_names
        classes = (*classes, *sorted(set(found) - set(classes)))
        while True:
            try:
                source = open_source(kind, root, classes=classes or None, **options)
                _ = source.class_names
                return source
            except UnknownClassError as error:  # a single folder is a class only where there are classes
                classes = (*classes, error.name)
    except (OptionError, ValueError) as error:
        raise click.UsageError(str(error)) from error
