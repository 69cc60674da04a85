"""Images of a source, several at once where the source can."""

from collections.abc import Callable, Iterator

from selfie_data.errors import ImageError
from selfie_data.source import Source, SourceImage


def read_images(source: Source, indices: list[int]) -> Iterator[SourceImage | ImageError]:
    """Yields each image, or why it cannot be used.

    Raises:
        SourceError: the source itself cannot be read.
    """
    read_many: Callable[[list[int]], list[SourceImage]] | None = getattr(source, "read_many", None)
    if read_many is not None:  # generated pictures come cheaper by the dozen
        yield from read_many(indices)
        return
    for index in indices:
        try:
            yield source.read(index)
        except ImageError as error:  # it names the image
            yield error
