"""Contact sheets: what is shown is what is stored, hidden patches show nothing, and the same sheet comes out again."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from pipelines.preview.contact_sheet import HIDDEN, PAPER, SheetEntry, draw_sheet
from pipelines.sampling.grid import Grid, patchify
from pipelines.sampling.selection import select_cells
from selfie_data.cli.__main__ import main
from selfie_data.dataset.opened import open_dataset
from tests.pipelines.conftest import random_images, write_dataset


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "shards", samples=12)


def _preview(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["preview", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def _entry(image: NDArray[np.uint8], patch_size: int, target: int, caption: str = "#0  cat") -> SheetEntry:
    grid = Grid(image_size=len(image), patch_size=patch_size)
    context = grid.cells - target
    cells = select_cells(0, 0, [0], grid, context=context, target=target)[0]
    patches = patchify(image[None], patch_size)[0, cells]
    return SheetEntry(caption=caption, image=image, patches=patches, cells=cells, context_count=context)


def _where(sheet: NDArray[np.uint8], picture: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Places (row, column) of a picture in the sheet."""
    windows = np.lib.stride_tricks.sliding_window_view(sheet, picture.shape)[:, :, 0]
    same = (windows[..., 0, 0, :] == picture[0, 0]).all(-1)
    return [(int(y), int(x)) for y, x in np.argwhere(same) if (windows[y, x] == picture).all()]


def test_context_is_in_its_cells_and_each_target_stands_once_beside() -> None:
    entry = _entry(random_images(1)[0], 8, 4)
    sheet = np.asarray(draw_sheet([entry], side=4, title="t", subtitle="s"))
    found = {}
    for patch, cell in zip(entry.patches[:12], entry.cells[:12].tolist(), strict=True):
        tile = patch.repeat(7, 0).repeat(7, 1)
        found[cell] = _where(sheet, tile)[-1]  # cell 0 stands in the whole image too, no line across it
    first = min(found)
    top, left = found[first][0] - first // 4 * 60, found[first][1] - first % 4 * 60
    assert found == {cell: (top + cell // 4 * 60, left + cell % 4 * 60) for cell in found}
    for patch, cell in zip(entry.patches[13:], entry.cells[13:].tolist(), strict=True):
        tile = patch.repeat(7, 0).repeat(7, 1)
        ((_, column),) = _where(sheet, tile)
        assert column > left + 4 * 60  # a distractor is beside the grid, not in it
        hole = sheet[top + cell // 4 * 60 :, left + cell % 4 * 60 :][:56, :56]
        assert (hole[6] == HIDDEN).all(axis=-1).sum() > 30  # dark, with a hatch


@pytest.mark.parametrize(
    ("size", "patch_size", "target", "count"), [(32, 8, 4, 5), (224, 32, 12, 3), (32, 16, 1, 1), (64, 4, 64, 1)]
)
def test_sheets_of_all_geometries_stay_inside_the_paper(size: int, patch_size: int, target: int, count: int) -> None:
    entries = [
        _entry(image, patch_size, target, f"#{10**9}  {'long name ' * 20}") for image in random_images(count, size)
    ]
    sheet = np.asarray(draw_sheet(entries, side=size // patch_size, title="title " * 90, subtitle="s " * 300))
    for edge in (sheet[:, :5], sheet[:, -5:], sheet[:5], sheet[-3:]):
        assert (edge == PAPER).all()


@pytest.mark.parametrize("options", [(), ("--batch",), ("--epoch", 3, "--seed", 9, "--target", 3, "--columns", 1)])
def test_the_same_sheet_comes_out_again(shards: Path, tmp_path: Path, options: tuple[object, ...]) -> None:
    output = _preview(shards, "-o", tmp_path / "a.png", "--count", 3, *options)
    assert f"{tmp_path / 'a.png'}: 3 images" in output
    _preview(shards, "--output", tmp_path / "b.png", "--count", 3, *options)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as sheet:
        sheet.verify()


def test_a_batch_shows_the_loaders_order_and_patches(
    shards: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pipelines import PatchLoader

    seen: list[SheetEntry] = []
    monkeypatch.setattr(
        "pipelines.preview.command.draw_sheet",
        lambda entries, **rest: seen.extend(entries) or draw_sheet(entries, **rest),
    )
    _preview(shards, "-o", tmp_path / "a.png", "--batch", "--count", 4, "--epoch", 2)
    with PatchLoader(open_dataset(shards), global_batch_size=4, device="cpu", rank=0, world_size=1) as loader:
        loader.set_epoch(2)
        batch = next(iter(loader))
        ids, patches = batch.sample_id.tolist(), batch.patches.numpy().copy()
    assert [entry.caption.split()[0] for entry in seen] == [f"#{sample}" for sample in ids]
    np.testing.assert_array_equal(np.stack([entry.patches for entry in seen]), patches)


@pytest.mark.parametrize("batch", [(), ("--batch",)], ids=["stored", "batch"])
def test_unlabelled_photographs_of_mixed_sizes(tmp_path: Path, batch: tuple[str, ...]) -> None:
    shapes = [(120, 150), (128, 110), (96, 200)]
    path = write_dataset(
        tmp_path / "shards", samples=5, size=96, encoding="jpeg", shapes=shapes, labelled=False, shards=1
    )
    assert "5 images" in _preview(path, "-o", tmp_path / "a.png", *batch)


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\u2028b", "a\x00b", "a\udcffb"])
def test_a_name_is_drawn_in_one_line_whatever_it_holds(name: str) -> None:
    image = random_images(1)[0]
    sheets = [
        draw_sheet([_entry(image, 8, 4, caption=f"#0  {text}")], side=4, title=text, subtitle="s")
        for text in (name, "a b")
    ]
    np.testing.assert_array_equal(np.asarray(sheets[0]), np.asarray(sheets[1]))


def test_a_sheet_is_not_written_over(shards: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.png"
    path.write_text("mine")
    result = CliRunner().invoke(main, ["preview", str(shards), "-o", str(path)])
    assert result.exit_code == 1
    assert f"{path} exists already; give another -o, or --overwrite" in result.output
    assert path.read_text() == "mine"
    _preview(shards, "-o", path, "--overwrite")
    with Image.open(path) as sheet:
        sheet.verify()


def test_wrong_usage_is_one_line(shards: Path, tmp_path: Path) -> None:
    for arguments, code, message in (
        ([shards, "--patch-size", 7], 2, "patch size must divide the image size"),
        ([shards, "--target", 16], 2, "together at most 16 patches"),
        ([shards, "--first", 12], 2, "no sample id from 12 on: the highest is 11"),
        ([shards, "--subset", "nothing"], 1, "no subset 'nothing'"),
        ([shards, "-o", tmp_path / "no" / "a.png"], 1, "cannot be written"),
        ([tmp_path / "none"], 1, "no such dataset directory"),
    ):
        result = CliRunner().invoke(main, ["preview", *map(str, arguments)])
        assert result.exit_code == code, result.output
        assert message in result.output
        assert "Traceback" not in result.output


@pytest.mark.parametrize("batch", [(), ("--batch",)])
@pytest.mark.parametrize("selection", ["blocks", "squares", "multiblock"])
def test_other_selections_show_what_each_encoder_sees(
    shards: Path, tmp_path: Path, selection: str, batch: tuple[str, ...]
) -> None:
    png = tmp_path / "sheet.png"
    said = _preview(
        shards, "-o", png, "--selection", selection, "--patch-size", 4, "--count", 3, "--columns", 1, *batch
    )
    panels = 1 + (5 if selection == "multiblock" else 2)
    width, height = 20 + panels * (224 + 14) - 14 + 20, 20 + 3 * 20 + 3 * (2 * 20 + 224 + 20)
    assert said.strip() == f"{png}: 3 images, {width} x {height} px"
    sheet = np.asarray(Image.open(png))
    top = 20 + 3 * 20 + 2 * 20
    whole, *shown = (sheet[top : top + 224, left : left + 224] for left in range(20, width - 200, 238))
    seen = [(panel != HIDDEN).any(axis=-1) for panel in shown]
    for panel, cells in zip(shown, seen, strict=True):
        assert 0 < cells.mean() < 1
        assert np.array_equal(panel[cells], whole[cells])  # whole pixels, enlarged: no cell bleeds into another
    assert not (seen[0] & np.logical_or.reduce(seen[1:])).any()  # the context holds no target


def test_many_targets_are_shown_in_panels(shards: Path, tmp_path: Path) -> None:
    said = _preview(shards, "-o", tmp_path / "sheet.png", "--patch-size", 2, "--target", 192, "--count", 1)
    assert "1 images, 740 x" in said
