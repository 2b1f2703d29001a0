"""Images whose label is another file or a line of text: masks beside images, and lines of text in a TSV."""

from __future__ import annotations

from pathlib import Path

from mz.data.dataset import FileDataset
from mz.data.folder import IMAGE_SUFFIXES, image_files
from mz.data.labels import LabelList, MaskFiles
from mz.errors import UserError

_MASK_FOLDERS = ("labels", "masks", "annotations")
TEXT_FILE = "labels.tsv"


def mask_folder(path: Path) -> Path | None:
    """The folder of masks beside `images`, if there is one."""
    if not (path / "images").is_dir():
        return None
    return next((path / name for name in _MASK_FOLDERS if (path / name).is_dir()), None)


def open_masks(path: Path, name: str, class_names: tuple[str, ...]) -> FileDataset:
    """Images in `images` and for each a mask of the same name in `labels` (or `masks`, `annotations`).

    A mask is an image of one channel that holds class numbers.
    """
    folder = mask_folder(path)
    if folder is None:
        raise UserError(
            f"{path}: expected a folder `images` and beside it `labels` with a mask for each image"
        )
    files = image_files(path / "images")
    masks = {mask.stem: mask for mask in image_files(folder)}
    missing = next((file for file in files if file.stem not in masks), None)
    if missing is not None:
        raise UserError(f"{missing}: no mask of this name in {folder}")
    return FileDataset(name, files, MaskFiles(tuple(masks[file.stem] for file in files)), class_names)


def open_lines(path: Path, name: str, class_names: tuple[str, ...]) -> FileDataset:
    """Images of lines of text, in the folder or in its `images`, and `labels.tsv`: file name, tab, text.

    The images that the TSV lists are the data set, in the order of their names.
    """
    table = path / TEXT_FILE
    if not table.is_file():
        raise UserError(f"{path}: no {TEXT_FILE} (file name, tab, text) in this folder")
    folder = path / "images" if (path / "images").is_dir() else path
    texts: dict[str, str] = {}
    for number, line in enumerate(table.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        file, tab, text = line.rstrip("\r").partition("\t")
        if not tab:
            raise UserError(f"{table}:{number}: expected a file name, a tab and a text, found {line!r}")
        if Path(file).suffix.lower() not in IMAGE_SUFFIXES:
            raise UserError(f"{table}:{number}: {file!r} is no image file")
        if not (folder / file).is_file():
            raise UserError(f"{table}:{number}: {file} is not in {folder}")
        texts[file] = text
    if not texts:
        raise UserError(f"{table}: lists no lines")
    files = sorted(texts)
    labels = LabelList(tuple(texts[file] for file in files))
    return FileDataset(name, tuple(folder / file for file in files), labels, class_names)
