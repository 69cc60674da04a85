"""Formats by content; those that not every Pillow reads; how many pixels an image may have."""

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from selfie_data.build.build_shards import build_shards
from selfie_data.build.options import BuildOptions
from selfie_data.build.plan import Plan
from selfie_data.build.shard_task import Job, build_shard
from selfie_data.cli.__main__ import main
from selfie_data.dataset.names import BUILD
from selfie_data.dataset.opened import open_dataset
from selfie_data.errors import ImageError
from selfie_data.images import formats
from selfie_data.images.decode import JPEG_TIMES, MAX_PIXELS
from selfie_data.images.formats import HEAD_BYTES, MISSING, decoder_versions, format_of, rare_format
from tests.material import decoded, encoded, jpeg, memory_source, picture

PIXELS = picture(40, 60, seed=0)
RARE = ("AVIF", "JPEG2000")
COMMON = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
HEIC = b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf" + b"\0" * 100


@pytest.mark.parametrize("kind", [*COMMON, *RARE])
def test_a_format_is_told_by_how_a_file_begins(kind: str) -> None:
    head = encoded(Image.fromarray(PIXELS), kind)[:HEAD_BYTES]
    assert format_of(head) == kind
    assert rare_format(head) == (kind if kind in RARE else None)


def test_more_beginnings() -> None:
    assert format_of(encoded(Image.fromarray(PIXELS), "JPEG2000", no_jp2=True)[:HEAD_BYTES]) == "JPEG2000"
    assert format_of(HEIC) == "HEIF"
    for text in (
        b"BM is how words begin, too, and this is no bitmap",
        b"P5",
        b"P7 x",
        b"",
        b"\0\0\0\x18ftypmp42\0\0\0\0",
    ):
        assert format_of(text) is None


@given(st.binary(max_size=HEAD_BYTES))
def test_any_bytes_are_looked_at_without_an_error(head: bytes) -> None:
    format_of(head)
    format_of(b"\0\0\0\x20ftyp" + head)


@pytest.mark.parametrize("kind", RARE)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_rarer_formats_are_decoded_upright_as_pillow_does(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif, "quality": 95} if kind == "AVIF" else {}
    found = decoded(encoded(Image.fromarray(PIXELS), kind, **options))
    turned = orientation >= 5 and kind == "AVIF"
    assert found.shape == ((60, 40, 3) if turned else (40, 60, 3))
    if kind == "JPEG2000":
        assert np.array_equal(found, PIXELS)


def test_transparency_is_laid_on_white_in_them_too() -> None:
    clear = Image.fromarray(np.concatenate((PIXELS, np.zeros((40, 60, 1), np.uint8)), axis=2))
    for kind in RARE:
        assert (decoded(encoded(clear, kind)) == 255).all(), kind


@pytest.mark.parametrize("kind", RARE)
def test_damaged_ones_are_that_images_error(kind: str) -> None:
    data = encoded(Image.fromarray(PIXELS), kind)
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data)
        for place in rng.integers(12, len(data), 3):
            damaged[place] = rng.integers(256)
        try:
            decoded(bytes(damaged[: rng.integers(13, len(data) + 1)]))
        except ImageError as error:
            assert "\n" not in str(error)  # noqa: PT017 - most are decoded, some are not


def test_their_decoders_are_in_the_manifest_where_they_were_used(tmp_path: Path) -> None:
    common = [encoded(Image.fromarray(PIXELS), kind) for kind in COMMON]
    avif, jpeg2000 = (encoded(Image.fromarray(PIXELS), kind) for kind in RARE)
    options = BuildOptions(size=32, samples_per_shard=4)
    without = build_shards(memory_source(common), tmp_path / "without", options, workers=1)
    assert not {"pillow-libavif", "pillow-openjpeg", "pillow-heif"} & without.codecs.keys()
    source = memory_source([*common, avif])
    with_avif = build_shards(source, tmp_path / "avif", options, workers=1)
    assert with_avif.codecs == without.codecs | {"pillow-libavif": str(features.version("avif"))}
    assert build_shards(source, tmp_path / "avif", options, workers=1) == with_avif  # found finished
    both = build_shards(memory_source([jpeg2000, *common, avif]), tmp_path / "both", options, workers=2)
    assert both.codecs.keys() - without.codecs.keys() == {"pillow-libavif", "pillow-openjpeg"}


def test_a_shard_is_built_again_under_another_version_of_a_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = BuildOptions(size=32)
    for kind, fits in (("PNG", True), ("AVIF", False)):
        source = memory_source([encoded(Image.fromarray(PIXELS), kind)])
        out = tmp_path / kind
        (out / BUILD).mkdir(parents=True)
        plan = Plan(size=1, samples=1, samples_per_shard=1, seed=0)
        job = Job(source=source, plan=plan, encoder=options.encoder, out=out, fail_on_error=True)

        def is_reused(job: Job = job) -> bool:
            return build_shard(job, job.source.labels, 0, lambda _: None).reused

        assert (is_reused(), is_reused()) == (False, True)
        with monkeypatch.context() as patched:
            patched.setattr(formats, "_version", lambda _: "another")
            assert (is_reused(), is_reused()) == (fits, True)


def test_without_a_decoder_they_are_quarantined_and_told_what_to_install(tmp_path: Path) -> None:
    if decoder_versions("HEIF") != {"pillow-heif": MISSING}:
        pytest.skip("pillow-heif is installed")
    source = memory_source([HEIC, jpeg(PIXELS)])
    manifest = build_shards(source, tmp_path / "out", BuildOptions(size=32), workers=1)
    (entry,) = open_dataset(tmp_path / "out").quarantined()
    assert entry.reason == "an image in the format HEIF, for which there is no decoder: pip install pillow-heif"
    assert manifest.codecs["pillow-heif"] == MISSING


def test_a_plugin_is_registered_when_it_is_first_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    plugin = ModuleType("pillow_heif")
    plugin.register_heif_opener = lambda: calls.append("registered")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    monkeypatch.setattr(formats.importlib.metadata, "version", lambda _: "1.2.3")
    for cached in (formats._version, formats._register):
        cached.cache_clear()
    assert decoder_versions("HEIF") == {"pillow-heif": "1.2.3"}
    assert calls == []
    formats.prepare("HEIF")
    formats.prepare("HEIF")
    assert calls == ["registered"]
    for cached in (formats._version, formats._register):
        cached.cache_clear()


def test_a_limit_of_pixels_can_be_changed() -> None:
    for kind in ("PNG", *RARE):
        data = encoded(Image.fromarray(PIXELS), kind)
        assert decoded(data, max_pixels=2400).shape == (40, 60, 3)
        with pytest.raises(ImageError, match=r"60 x 40 pixels, the limit is 2399 \(--max-pixels\)"):
            decoded(data, max_pixels=2399)
    whole = jpeg(PIXELS)
    assert decoded(whole, max_pixels=2400).shape == (40, 60, 3)
    with pytest.raises(ImageError, match=r"pixels to decode at 1/1, the limit is 2399 \(--max-pixels\)"):
        decoded(whole, max_pixels=2399)
    assert decoded(whole, max_pixels=600, shorter_side=10).shape == (20, 30, 3)
    with pytest.raises(ImageError, match=rf"the limit is {JPEG_TIMES * 599} \(--max-pixels\)"):
        decoded(whole, max_pixels=599, shorter_side=10)


def test_the_limit_is_an_option_of_the_build_and_in_its_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, side in {"1.png": 40, "2.png": 50, "3.jpg": 50}.items():
        Image.fromarray(picture(side, side, seed=1)).save(folder / name)
    build = ["build-shards", "folder", str(tmp_path / "out"), "--root", str(folder), "--size", "32", "--workers", "1"]
    done = CliRunner().invoke(main, [*build, "--max-pixels", "2000", "--json"])
    assert json.loads(done.stdout.splitlines()[-1])["quarantined"] == 2
    manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
    assert manifest["options"]["max_pixels"] == 2000
    assert "--max-pixels" in next(open_dataset(tmp_path / "out").quarantined()).reason
    done = CliRunner().invoke(main, build)
    assert "options.max_pixels = 2000, asked for is null" in done.stderr
    assert "max_pixels" not in BuildOptions(size=32).describe()
    assert CliRunner().invoke(main, ["build-shards", "--help"]).stdout.count(str(MAX_PIXELS)) == 1
    for wrong in (0, 1 << 28):
        with pytest.raises(ValueError, match="max_pixels must be in"):
            BuildOptions(size=32, max_pixels=wrong)
