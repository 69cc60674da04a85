"""Every error a user can cause or meet. Each is one clear line: the rule, what was got, what to do."""


class SelfieDataError(Exception):
    """Base of all errors about data; the command line prints its message as one line and exits."""


class SourceError(SelfieDataError):
    """The source cannot be read: missing, truncated, hostile or not of the stated kind."""


class UnknownClassError(SourceError):
    """An image is of the class `name`, which the list of classes to use has not."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class OptionError(SourceError):
    """An option does not go with this kind of source, or one that it needs is missing; no data is at fault."""


class ImageError(SourceError):
    """One image of a source cannot be used; at build it is quarantined or, with `--on-error fail`, ends the build."""


class BuildError(SelfieDataError):
    """A build cannot start or go on: other options or another build in the folder, no space, an I/O error."""


class DatasetError(SelfieDataError):
    """A built dataset is missing, damaged, or of a newer schema."""


class CacheError(SelfieDataError):
    """The node's cache of shards cannot be used: its place, its limit, a full disk, another process that is stuck."""


class RunError(Exception):
    """A run cannot start, go on, or be read: its folder, its checkpoint or its options are not what they must be."""


class DivergedError(RunError):
    """The loss is not finite, or far above where it began."""


class DeviceError(RunError):
    """A device computes or decodes other bits than the reference does."""


class CorruptSampleError(DatasetError):
    """A sample's bytes are not what was written.

    Attributes:
        shard: name of the shard's file.
        offset: byte offset of the sample in the shard.
        key: the sample's key in the shard.
    """

    def __init__(self, reason: str, *, shard: str, offset: int, key: str) -> None:
        super().__init__(f"{shard}: sample {key} at offset {offset}: {reason}")
        self.shard = shard
        self.offset = offset
        self.key = key

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args[0], self.shard, self.offset, self.key))


def _rebuild(kind: type[CorruptSampleError], message: str, shard: str, offset: int, key: str) -> CorruptSampleError:
    error = kind.__new__(kind, message)
    Exception.__init__(error, message)
    error.shard, error.offset, error.key = shard, offset, key
    return error
