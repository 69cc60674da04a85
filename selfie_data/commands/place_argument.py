"""What a command takes for a dataset: a folder, or the URL of one."""

from pathlib import Path
from typing import Any

import click

from selfie_data.storage.place import Place, RemotePath, place_of
from selfie_data.storage.protocol import StorageError


class PlaceArgument(click.ParamType[Place]):
    """A path of this machine, or a URL."""

    name = "PATH_OR_URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        if value == "":  # a variable of the shell that is not set; as a path it would be the current folder
            self.fail("an empty name is no path", param, ctx)
        try:
            return place_of(value)
        except StorageError as error:
            self.fail(str(error), param, ctx)


class LocalPath(PlaceArgument):
    """A path of this machine."""

    name = "PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        place = super().convert(value, param, ctx)
        if isinstance(place, RemotePath):
            self.fail(f"must be a path of this machine, got {place}", param, ctx)
        return place
