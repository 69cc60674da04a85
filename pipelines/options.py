"""The options of the loaders, as records by concern: the groups of a constructor's keywords are what is passed on.

    DataOptions      which samples there are          OrderOptions    in which steps they come
    ImageOptions     what becomes of an image         PatchOptions    how it is cut and what is hidden
    RuntimeOptions   who does the work, and where

Every keyword, its type and its default stands here once; `loader.PatchLoader` says what each means. A record checks its
values when it is made, before anything is opened or built.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Concatenate, Literal, ParamSpec, TypeVar, get_args

import torch

from pipelines.arguments import given_normalisation, whole_number
from pipelines.backends.choose import BackendName
from pipelines.batch_plan import TORCH_DTYPE, Decode, Dtype, Verify
from pipelines.normalise import Normalisation
from pipelines.sampling.augment import Augmentation
from pipelines.sampling.blocks import RECORDS, named_selection
from pipelines.sampling.lanes import check_lanes, default_lanes
from pipelines.sampling.patches import Masking, Rule
from pipelines.sampling.selection import SelectionName
from pipelines.sampling.subset import Ids
from selfie_data.dataset.opened import Dataset
from selfie_data.storage.place import Place, place_of

Shuffle = Literal["global", "lanes"] | int
OnError = Literal["fail", "record"]

Keywords = ParamSpec("Keywords")
Options = TypeVar("Options")
Loader = TypeVar("Loader")


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which samples a loader goes through."""

    shards: Place | str | Dataset = field(kw_only=False)
    subset: Ids = None
    exclude: Ids = None
    on_error: OnError = "fail"
    follow: bool = False

    def __post_init__(self) -> None:
        _one_of("on_error", self.on_error, get_args(OnError))
        if self.on_error == "record" and self.record is None:
            raise ValueError(
                "on_error='record' needs exclude=PATH.txt, the record to write to and to read at the start"
            )

    @property
    def at_url(self) -> bool:
        """Whether the shards lie in a bucket or on a web server."""
        place = self.shards.path if isinstance(self.shards, Dataset) else place_of(self.shards)
        return not isinstance(place, Path)

    @property
    def record(self) -> Path | None:
        """The exclusion record to add to; None if nothing is to be recorded."""
        named = isinstance(self.exclude, str | Path) and Path(self.exclude).suffix == ".txt"
        return Path(str(self.exclude)) if self.on_error == "record" and named else None


@dataclass(frozen=True, kw_only=True)
class OrderOptions:
    """In which steps the samples come, and which rank sees what of a step."""

    global_batch_size: int
    seed: int = 0
    shuffle: Shuffle | None = None
    lanes: int | None = None
    evaluation: bool = False
    rank: int | None = None
    world_size: int | None = None

    def __post_init__(self) -> None:
        _make_whole(self, "global_batch_size", "seed")
        if not 0 <= self.seed < 1 << 64:
            raise ValueError(f"a seed must be in [0, 2**64), got {self.seed}")
        if self.shuffle not in (None, "global", "lanes") and (type(self.shuffle) is not int or self.shuffle < 1):
            raise ValueError(f"shuffle must be 'global' or a number of shards >= 1, or 'lanes', got {self.shuffle!r}")
        if self.shuffle == "lanes":
            lanes = default_lanes(self.global_batch_size) if self.lanes is None else whole_number("lanes", self.lanes)
            check_lanes(lanes, self.global_batch_size)
            object.__setattr__(self, "lanes", lanes)
        elif self.lanes is not None:
            raise ValueError(f"lanes are of shuffle='lanes', got lanes={self.lanes!r} and shuffle={self.shuffle!r}")


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """What becomes of a stored image on its way to a tensor."""

    augment: str | Augmentation = "auto"
    dtype: Dtype = "uint8"
    normalisation: Normalisation | None = None
    antialias: bool = True

    def __post_init__(self) -> None:
        _one_of("dtype", self.dtype, tuple(TORCH_DTYPE))
        if self.normalisation is not None:
            object.__setattr__(self, "normalisation", given_normalisation(self.normalisation))


@dataclass(frozen=True, kw_only=True)
class PatchOptions:
    """How an image is cut into patches, and which of them are hidden."""

    patch_size: int | None = None
    context: int | None = None
    target: int | None = None
    masking: Masking = "skip"
    selection: SelectionName | Rule | None = None
    whole_image: bool = False

    def __post_init__(self) -> None:
        _make_whole(self, *(name for name in ("patch_size", "context", "target") if getattr(self, name) is not None))
        if self.masking not in get_args(Masking):
            raise ValueError(f"masking must be 'skip' or 'zero', got {self.masking!r}")
        if isinstance(self.selection, str):
            named_selection(self.selection)
        elif not (self.selection is None or isinstance(self.selection, RECORDS) or callable(self.selection)):
            raise ValueError(
                f"selection must be a name, a record of sampling.blocks or a function, got {self.selection!r}"
            )


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    """Who does the work, and where; none of it changes what is in a batch."""

    device: str | torch.device = "auto"
    backend: BackendName = "auto"
    decode: Decode = "mixed"
    store: Path | str | None = None
    verify: Verify = "first"
    threads: int | None = None
    prefetch: int = 2

    def __post_init__(self) -> None:
        _one_of("decode", self.decode, get_args(Decode))
        _one_of("verify", self.verify, get_args(Verify))
        _make_whole(self, "prefetch", *(() if self.threads is None else ("threads",)))
        if self.prefetch < 1 or (self.threads is not None and self.threads < 1):
            raise ValueError(f"prefetch and threads must be at least 1, got {self.prefetch} and {self.threads}")


# Fields of a dataclass come in the reverse order of its bases: data first, as a signature reads best.
@dataclass(frozen=True, kw_only=True)
class ImageLoaderOptions(RuntimeOptions, ImageOptions, OrderOptions, DataOptions):
    """What both loaders take."""

    def __post_init__(self) -> None:
        if self.shuffle is None:
            remote = self.at_url and self.store is None and not self.evaluation
            object.__setattr__(self, "shuffle", "lanes" if remote else "global")
        for group in (DataOptions, OrderOptions, ImageOptions, RuntimeOptions):
            group.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class PatchLoaderOptions(PatchOptions, ImageLoaderOptions):
    """What a loader of patches takes."""

    def __post_init__(self) -> None:
        ImageLoaderOptions.__post_init__(self)
        PatchOptions.__post_init__(self)


def keywords_of(
    options: Callable[Keywords, Options],
) -> Callable[[Callable[[Loader, Options], None]], Callable[Concatenate[Loader, Keywords], None]]:
    """Returns a decorator that makes a constructor from a record one from the record's fields as keywords.

    Type checkers, editors and `help` see the fields with their types and defaults as the constructor's own.

    Raises:
        TypeError: (the constructor) a keyword that there is not, or one that is missing; it is named.
    """
    fields = inspect.signature(options)

    def decorate(build: Callable[[Loader, Options], None]) -> Callable[Concatenate[Loader, Keywords], None]:
        def __init__(self: Loader, /, *args: Keywords.args, **kwargs: Keywords.kwargs) -> None:
            try:
                fields.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{type(self).__name__}() {error}") from None
            build(self, options(*args, **kwargs))

        functools.update_wrapper(__init__, build)
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        parameters = [own, *fields.parameters.values()]
        __init__.__signature__ = fields.replace(parameters=parameters)  # type: ignore[attr-defined]
        return __init__

    return decorate


def _make_whole(record: object, *names: str) -> None:
    for name in names:
        object.__setattr__(record, name, whole_number(name, getattr(record, name)))


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
