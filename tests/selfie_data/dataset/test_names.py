"""Names of a dataset's files and members."""

from selfie_data.dataset.names import index_name, key_of, shard_name


def test_names() -> None:
    assert (key_of(42), shard_name(7), index_name(shard_name(7))) == (
        "000000000042",
        "shard-000007.tar",
        "shard-000007.idx",
    )
