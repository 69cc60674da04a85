"""Options that do not fit are refused in one line; a constructor shows its keywords."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from pipelines import ImageLoader, PatchLoader
from pipelines.options import DataOptions, OrderOptions, PatchLoaderOptions, PatchOptions
from tests.pipelines.streams import patches


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 51}, "more than the 50 samples"),
        ({"batch": 2, "rank": 0, "world_size": 3}, "at least the number of ranks"),
        ({"rank": 3, "world_size": 3}, "rank 3 of 3"),
        ({"rank": 0}, "together"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"patch_size": 5}, "divide"),
        ({"patch_size": 0}, "divide"),
        ({"context": 14, "target": 3}, "14 \\+ 3"),
        ({"context": 16}, "16 \\+ 0"),
        ({"masking": "half"}, "masking"),
        ({"augment": "finetune"}, "padded crops"),
        ({"augment": "strong"}, "augment must be"),
        ({"augment": "pretrain", "evaluation": True}, "augment must be 'none'"),
        ({"dtype": "int8"}, "dtype must be one of uint8"),
        ({"verify": "sometimes"}, "verify must be one of"),
        ({"on_error": "skip"}, "on_error must be one of"),
        ({"on_error": "record"}, "needs exclude=PATH.txt"),
        ({"shuffle": 0}, "shuffle must be"),
        ({"shuffle": True}, "shuffle must be"),
        ({"shuffle": "local"}, "shuffle must be"),
        ({"prefetch": 0}, "at least 1"),
        ({"threads": 0}, "at least 1"),
        ({"backend": "magic"}, "backend must be"),
        ({"backend": "store"}, "needs store=PATH"),
        ({"store": "x.zarr"}, "read by the backend 'store'"),
        ({"subset": [0, 50]}, "must be in \\[0, 50\\)"),
        ({"subset": [0, -1]}, "must be in \\[0, 50\\)"),
        ({"subset": [3, 3]}, "distinct"),
        ({"subset": [0.5]}, "must be integers"),
        ({"exclude": range(50)}, "no sample is left"),
        ({"batch": 8.0}, "global_batch_size must be a whole number, got 8.0"),
        ({"batch": "8"}, "global_batch_size must be a whole number"),
        ({"batch": True}, "global_batch_size must be a whole number"),
        ({"seed": None}, "seed must be a whole number"),
        ({"rank": "0", "world_size": 1}, "rank must be a whole number"),
        ({"patch_size": 8.0}, "patch_size must be a whole number"),
        ({"context": 1.5}, "context must be a whole number"),
        ({"target": "4"}, "target must be a whole number"),
        ({"threads": 1.5}, "threads must be a whole number"),
        ({"prefetch": "2"}, "prefetch must be a whole number"),
        ({"shuffle": 1.5}, "shuffle must be"),
        ({"shuffle": "lanes", "lanes": 3}, "lanes must divide global_batch_size, got 3 lanes for"),
        ({"shuffle": "lanes", "lanes": 2.0}, "lanes must be a whole number"),
        ({"lanes": 4}, "lanes are of shuffle='lanes', got lanes=4"),
        ({"selection": "block"}, "selection must be one of random, blocks"),
        ({"normalisation": 1}, "normalisation must be"),
        ({"normalisation": (np.ones(3), np.ones(2))}, "normalisation must be"),
        ({"normalisation": ([1, 1, float("nan")], [0, 0, 0])}, "normalisation must be"),
    ],
    ids=str,
)
def test_wrong_options_are_refused_in_one_line(raw_shards: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        patches(raw_shards, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("loader", [PatchLoader, ImageLoader])
def test_a_keyword_that_there_is_not_or_that_is_missing_is_named(
    raw_shards: Path, loader: type[PatchLoader | ImageLoader]
) -> None:
    with pytest.raises(TypeError, match=rf"^{loader.__name__}\(\) .*unexpected keyword argument 'batch_size'$"):
        loader(raw_shards, global_batch_size=8, batch_size=8)
    with pytest.raises(TypeError, match=rf"^{loader.__name__}\(\) missing a required argument: 'global_batch_size'$"):
        loader(raw_shards)
    with pytest.raises(TypeError, match="too many positional"):
        loader(raw_shards, 8)


def test_every_keyword_is_shown_and_explained_once() -> None:
    keywords = inspect.signature(PatchLoader).parameters
    assert set(inspect.signature(ImageLoader).parameters) == set(keywords) - {
        "patch_size", "context", "target", "masking", "selection", "whole_image",
    }  # fmt: skip
    assert keywords["shards"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert keywords["global_batch_size"].default is inspect.Parameter.empty
    assert (keywords["masking"].default, keywords["prefetch"].default) == ("skip", 2)
    arguments = str(PatchLoader.__doc__).split("Args:")[1].split("Raises:")[0]
    assert sorted(re.findall(r"^ {8}(\w+): ", arguments, re.MULTILINE)) == sorted(keywords)


def test_a_record_holds_what_the_keywords_said_and_is_any_of_its_groups() -> None:
    options = PatchLoaderOptions("shards", global_batch_size=np.int64(8), context=3, on_error="record", exclude="a.txt")
    assert type(options.global_batch_size) is int
    assert (options.seed, options.target, options.record) == (0, None, Path("a.txt"))
    assert all(isinstance(options, group) for group in (DataOptions, OrderOptions, PatchOptions))
