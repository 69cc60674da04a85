from pathlib import Path

import numpy as np
import pytest

from selfie_data.dataset.opened import open_dataset
from selfie_data.errors import DatasetError


def test_a_sample_is_where_the_table_says(raw_dataset: Path) -> None:
    dataset = open_dataset(raw_dataset)
    assert (len(dataset), dataset.image_size, dataset.encoding) == (1000, 32, "raw")
    row = 777
    with dataset.shard_path(int(dataset.table.shard[row])).open("rb") as shard:
        shard.seek(int(dataset.table.offset[row]) - 512)
        assert shard.read(16) == f"{dataset.key(row)}.raw".encode()


def test_an_unknown_subset_is_refused_by_name(raw_dataset: Path) -> None:
    with pytest.raises(DatasetError, match="no subset 'train'; there are: none"):
        open_dataset(raw_dataset).subset("train")


def test_jpegs_fit_the_shorter_side(jpeg_dataset: Path, unlabelled_dataset: Path) -> None:
    table = open_dataset(jpeg_dataset).table
    assert np.minimum(table.height, table.width).max() == 256
    assert (open_dataset(unlabelled_dataset).table.label == -1).all()
