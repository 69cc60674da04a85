"""WebDataset shards: local brace lists in place, URLs through a local server, labels from `.cls`."""

import gzip
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import webdataset

from selfie_data.errors import OptionError, SourceError
from selfie_data.source import ImageSource
from selfie_data.sources import open_source
from selfie_data.sources.webdataset import expand
from tests.selfie_data.sources.handmade import member, tar, tar_of


def shard(number: int) -> dict[str, bytes]:
    return {
        f"{number}_b.jpg": f"image {number} b".encode(),
        f"{number}_b.cls": b"10",
        f"{number}_a.seg.png": f"image {number} a".encode(),
        f"{number}_a.cls": b"2\n",
        f"{number}_a.json": b"{}",
        f"{number}_c.jpg": f"image {number} c".encode(),
    }


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in range(3):
        (folder / f"s-{number:06d}.tar").write_bytes(tar_of(shard(number)))
    return folder


def check(source: ImageSource) -> None:
    names = [source.read(index).name for index in range(len(source))]
    assert names == [
        f"s-{number:06d}.tar/{number}_{end}" for number in range(3) for end in ("a.seg.png", "b.jpg", "c.jpg")
    ]
    assert [source.read(index).data for index in range(9)] == [
        f"image {number} {letter}".encode() for number in range(3) for letter in "abc"
    ]
    assert source.class_names == ("02", "10")
    assert source.labels.tolist() == [0, 1, -1] * 3


def test_a_brace_list_is_read_in_place(shards: Path) -> None:
    source = open_source("tar", f"{shards}/s-{{000000..000002}}.tar")
    check(source)
    assert source.spool_bytes == 0
    assert str(shards) not in repr(source.description)
    check(open_source("tar", "::".join(f"{shards}/s-{number:06d}.tar" for number in range(3))))
    check(open_source("tar", f"file://{shards}/s-{{000000..000002}}.tar"))


def test_more_shards_than_files_are_kept_open_read_from_threads(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"s-{number:03d}.tar").write_bytes(tar_of({"a.jpg": f"image {number}".encode()}))
    source = open_source("tar", f"{tmp_path}/s-{{000..299}}.tar")
    before = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda index: source.read(index).data, range(300)))
    assert found == [f"image {number}".encode() for number in range(300)]
    assert len(os.listdir("/proc/self/fd")) <= before


def test_one_shard_has_labels_too(shards: Path, tmp_path: Path) -> None:
    path = shards / "s-000001.tar"
    source = open_source("tar", path)
    assert [source.read(index).name for index in range(3)] == ["1_a.seg.png", "1_b.jpg", "1_c.jpg"]
    assert source.labels.tolist() == [0, 1, -1]
    zipped = tmp_path / "z.tar.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert open_source("tar", zipped).spool(tmp_path / "spool").labels.tolist() == [0, 1, -1]
    assert open_source("tar", f"file:{zipped}").spool(tmp_path / "spool2").labels.tolist() == [0, 1, -1]


def test_shards_by_webdataset_itself_are_read(tmp_path: Path) -> None:
    with webdataset.ShardWriter(str(tmp_path / "w-%06d.tar"), maxcount=3, verbose=0) as writer:
        for number in range(7):
            writer.write({"__key__": f"k{number}", "jpg": f"image {number}".encode(), "cls": number % 3})
    source = open_source("tar", str(tmp_path / "w-{000000..000002}.tar"))
    assert [source.read(index).data for index in range(7)] == [f"image {number}".encode() for number in range(7)]
    assert source.labels.tolist() == [number % 3 for number in range(7)]


def test_a_class_list_is_applied(shards: Path) -> None:
    source = open_source("tar", f"{shards}/s-{{000000..000002}}.tar", classes=["2", "5", "10"])
    assert source.class_names == ("2", "5", "10")
    assert source.labels.tolist() == [0, 2, -1] * 3


def test_a_key_may_stand_once_a_shard(shards: Path) -> None:
    (shards / "s-000001.tar").write_bytes(tar_of({"same.jpg": b"x"}))
    (shards / "s-000002.tar").write_bytes(tar_of({"same.jpg": b"y"}))
    assert len(open_source("tar", f"{shards}/s-{{000001..000002}}.tar")) == 2
    (shards / "s-000002.tar").write_bytes(tar_of({"same.jpg": b"y", "same.png": b"z"}))
    with pytest.raises(SourceError, match=r"holds s-000002\.tar/same twice; keys must be unique"):
        open_source("tar", f"{shards}/s-{{000001..000002}}.tar")
    with pytest.raises(SourceError, match=r"the list of shards holds .*s-000001\.tar twice"):
        open_source("tar", f"{shards}/s-000001.tar::{shards}/s-000001.tar")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"0.5", "the fraction '0.5'"),
        (b"3,5", "several labels"),
        (b"[0, 1]", "several labels"),
        (b"x" * 5000, "has 5000 bytes: a label is one integer or name"),
    ],
)
def test_labels_that_are_refused(shards: Path, text: bytes, message: str) -> None:
    (shards / "s-000000.tar").write_bytes(tar_of({"a.jpg": b"x", "a.cls": text}))
    with pytest.raises(SourceError, match=message):
        open_source("tar", f"{shards}/s-{{000000..000002}}.tar")


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("pipe:touch WITNESS", "shards by pipe: are refused"),
        ("PIPE:touch WITNESS", "shards by PIPE: are refused"),
        ("{pipe:touch WITNESS,a.tar}", "shards by pipe: are refused"),
        ("a.tar::pipe:touch WITNESS", "shards by pipe: are refused"),
        ("s4://bucket/a.tar", "shards by s4: are refused"),
        ("a-{0..9999999}.tar", "names more than 1000000 shards"),
        ("a-{0..999}{0..9999}.tar", "names more than 1000000 shards"),
        ("a-{0..3.tar::b", "there is no|unbalanced"),
        ("a.tar::", "has an empty name"),
        ("file://other.host/a.tar", "names another host"),
        ("http://h/a.tar::b.tar", "mixes local files and URLs"),
        ("nowhere-{0..1}.tar", "there is no nowhere-0.tar"),
    ],
)
def test_lists_that_are_refused(root: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=message):
        len(open_source("tar", root.replace("WITNESS", "witness")))
    assert not os.path.exists("witness")


def test_a_list_is_expanded_as_braces_are() -> None:
    assert expand("a-{08..10}.tar::b.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "b.tar"]


def test_a_split_is_refused(shards: Path) -> None:
    with pytest.raises(SourceError, match="shards have no splits"):
        open_source("tar", f"{shards}/s-{{000000..000002}}.tar", split="val")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(shards: Path) -> Iterator[str]:
    if shutil.which("curl") is None:
        pytest.skip("webdataset reads URLs through curl, which is not installed")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(shards))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


def test_urls_are_fetched_once(server: str, shards: Path, tmp_path: Path) -> None:
    opened = open_source("tar", f"{server}/s-{{000000..000002}}.tar")
    assert opened.spool_bytes == 1
    source = opened.spool(tmp_path / "spool")
    check(source)
    assert server not in repr(source.description)
    for path in shards.iterdir():
        path.unlink()
    check(opened.spool(tmp_path / "spool"))


def test_a_missing_or_cut_remote_shard_is_one_line(server: str, shards: Path, tmp_path: Path) -> None:
    (shards / "s-000001.tar").write_bytes(tar(member("a.jpg", b"x" * 2000))[:1500])
    with pytest.raises(SourceError, match=r"s-000001\.tar is truncated") as caught:
        open_source("tar", f"{server}/s-{{000000..000002}}.tar").spool(tmp_path / "spool")
    assert "\n" not in str(caught.value)
    (shards / "s-000001.tar").unlink()
    refused = r"s-000001\.tar: the transfer failed \(the server does not have it, or refuses it\)"
    with pytest.raises(SourceError, match=refused) as caught:
        open_source("tar", f"{server}/s-{{000000..000002}}.tar").spool(tmp_path / "spool")
    assert "\n" not in str(caught.value)
    (shards / "s-000001.tar").write_bytes(tar_of(shard(1)))
    check(open_source("tar", f"{server}/s-{{000000..000002}}.tar").spool(tmp_path / "spool"))


def test_a_server_that_is_not_there_is_told_without_its_url(tmp_path: Path, server: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://me:secret@127.0.0.1:{unused.getsockname()[1]}/s.tar"
        with pytest.raises(
            SourceError, match=r"s\.tar: the transfer failed \(nothing answers at that address\)"
        ) as caught:
            open_source("tar", url).spool(tmp_path / "spool")
    assert "secret" not in str(caught.value)


def test_the_environment_cannot_redirect_urls(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPEN_REWRITE", "http:=pipe:touch /tmp/x #")
    with pytest.raises(SourceError, match="GOPEN_REWRITE is set"):
        len(open_source("tar", f"{server}/s-000000.tar"))


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        (("train-0", "test-0"), "{train,test}-0"),
        (("train/0", "val/0"), "{train,val}/0"),
        (("a-train-0", "a-validation-0"), "a-{train,validation}-0"),
    ],
)
def test_shards_of_several_splits_are_asked_about(tmp_path: Path, names: tuple[str, ...], asked: str) -> None:
    folder = tmp_path / "test" / "train"  # above all of them: says nothing
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.tar").write_bytes(tar_of(shard(number)))
    root = f"{folder}/{asked}.tar"
    with pytest.raises(OptionError, match=r"several splits .*: --root names those of one, --subtree \. takes"):
        open_source("tar", root)
    if asked.endswith("-0"):  # else shards of one name
        assert len(open_source("tar", root, subtree=".")) == 6
    assert len(open_source("tar", f"{folder}/{names[0]}.tar")) == 3


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_a_folder_of_a_web_server_is_no_source(server: str, kind: str) -> None:
    with pytest.raises(SourceError, match="a web server has no list of its files, so no folder of one is read"):
        open_source(kind, f"{server}/photos")
