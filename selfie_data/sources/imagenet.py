"""ILSVRC 2012 as it is distributed, read in place, or as class folders.

    ILSVRC2012_img_train.tar   a tar of one tar a class: n01440764.tar, …         class = the inner tar's name
    ILSVRC2012_img_val.tar     flat; classes from a file of one WNID a line, or from the official ground truth, alone or
                               in the development kit (see `selfie_data.sources.imagenet_labels`)
    ILSVRC2012_img_test*.tar   flat, unlabelled
    folders                    ROOT/n01440764/…, ROOT/train/n01440764/…, ROOT/ILSVRC/Data/CLS-LOC/train/…

Images are in the order of (class, name), the flat ones in the order of their names.
"""

import re
from dataclasses import replace
from functools import partial

import numpy as np

from selfie_data.errors import OptionError, SourceError
from selfie_data.notices import Notices
from selfie_data.source import ImageSource, Json
from selfie_data.sources.folder import open_flat, open_tree
from selfie_data.sources.imagenet_labels import WNID, validation_wnids
from selfie_data.sources.naming.file_names import is_image, is_junk, printable, reason_to_pass_over
from selfie_data.sources.naming.split_names import refuse_other_split
from selfie_data.sources.options import SourceOptions
from selfie_data.sources.readers.archives import OpenedTar, is_gzip
from selfie_data.sources.readers.byte_ranges import RangeSource
from selfie_data.sources.readers.checksums import check_official
from selfie_data.sources.readers.folders import FileSource, existing, listed
from selfie_data.sources.readers.image_tree import FileFilter, refuse_twice, resolve_tree, sort_files
from selfie_data.sources.readers.labels import Labelled, label_by_name, unlabelled
from selfie_data.sources.readers.spooled_source import Resolved, describe, facts_of, fingerprint_of
from selfie_data.sources.readers.tar_listing import Listing, kept, several
from selfie_data.sources.readers.tarball import FileWindow, Member, ObjectWindow, list_members
from selfie_data.storage.place import Place

_TAR = {split: re.compile(rf"ILSVRC2012_img_{split}.*\.tar", re.IGNORECASE) for split in ("train", "val", "test")}
_FOLDERS = ("", "ILSVRC2012_img_", "ILSVRC/Data/CLS-LOC/")


def open_images(kind: str, root: Place | str, options: SourceOptions) -> ImageSource:
    """Opens ILSVRC 2012; see `selfie_data.sources.open_source`."""
    path = existing(root, kind)
    if not path.is_dir():
        return _open_tar(kind, path, options)
    found, *others = _find(path, options.split)
    if found == path:
        refuse_other_split(path.absolute().name, options.split)
    source = _open_folder(kind, path, found, options) if found.is_dir() else _open_tar(kind, found, options)
    for other in others:
        source.notices.add("archives and folders of the split beside the one that is read", printable(other.name))
    return source


def _find(root: Place, split: str) -> list[Place]:
    """Returns the split's tars and folders in `root`, first the one to read: `root` if it holds classes or images."""
    inside = listed(root)
    tars = [file for file in inside if _TAR[split].fullmatch(file.name) and file.is_file()]
    official = [file for file in tars if file.name == f"ILSVRC2012_img_{split}.tar"]
    if len(tars) > 1 and not official:
        names = ", ".join(file.name for file in tars[:5])
        raise SourceError(f"{root} holds several tars of {split} ({names}); --root must name one")
    others = [tar for tar in tars if tar not in official]
    folders = [root / f"{folder}{split}" for folder in _FOLDERS]
    if found := [*official, *others, *(folder for folder in folders if folder.is_dir())]:
        return found
    if any(WNID.fullmatch(file.name) or is_image(file.name) for file in inside):
        return [root]
    raise SourceError(f"{root} holds neither ILSVRC2012_img_{split}.tar nor class folders of {split}")


def _open_folder(kind: str, given: Place, folder: Place, options: SourceOptions) -> FileSource:
    chosen: dict[str, Json] = {"split": options.split}
    inside = listed(folder)
    if any(WNID.fullmatch(file.name) for file in inside):
        others = (file for file in inside if not WNID.fullmatch(file.name) and not reason_to_pass_over(f"{file.name}/"))
        _refuse_other_classes([file.name for file in others if file.is_dir()], folder.name)
        level = 1 if FileFilter(options.subtree).subtree is None else None  # whatever folders lie inside a class's
        return open_tree(kind, folder, replace(options, class_level=level), chosen)
    if options.split == "train":
        raise SourceError(f"{folder} holds no class folders such as n01440764")
    wnids = validation_wnids([folder, folder.parent, given], options) if options.split == "val" else None
    return open_flat(kind, folder, options, chosen, lambda count: _flat_labels(wnids, count, options))


def _refuse_other_classes(names: list[str], label: str) -> None:
    for name in names:
        if not WNID.fullmatch(name):
            raise SourceError(
                f"{label} holds {printable(name)} beside the classes, whose names are WNIDs such as n01440764: take it "
                "out, or read it as `folder` or `tar`"
            )


def _open_tar(kind: str, path: Place, options: SourceOptions) -> RangeSource:
    check_official(path, checksum=options.checksum)
    if is_gzip(path):
        raise SourceError(
            f"{path.name} is gzipped; the official archive is a plain tar, which is read in place: gunzip it"
        )
    with OpenedTar(path) as opened:
        assert isinstance(opened.window, FileWindow | ObjectWindow)
        window, keep = opened.window, partial(kept, options.listings, path)
        members = sorted(keep("all", lambda: Listing.of(list_members(window))).members())
        inner = [member for member in members if member.name.endswith(".tar") and not is_junk(member.name)]
        beside = Notices()
        if inner:
            for member in members:
                if member not in inner:
                    reason = reason_to_pass_over(member.name) or "files beside the tars of the classes"
                    beside.add(reason, printable(member.name))
            listing = keep("classes", lambda: _list_classes(window, inner))
        else:
            wanted = FileFilter(options.subtree)
            listing = keep(["members", wanted.subtree, False], lambda: Listing().add(window, wanted))
    resolved = _label_classes(listing, options) if inner else _label_flat(listing, path, options)
    chosen: dict[str, Json] = {"split": options.split}
    return RangeSource(
        kind=kind,
        description=describe(kind, chosen, [path]),
        fingerprint=fingerprint_of(kind, chosen, facts_of([path]), options.classes),
        ranges=listing.ranges([path]).take(resolved.order),
        labelled=resolved.labelled,
        notices=Notices(resolved.notices or Notices(), beside),
    )


def _list_classes(outer: FileWindow | ObjectWindow, inner: list[Member]) -> Listing:
    """Lists the tars in the tar; names begin with the class."""
    refuse_twice([member.name for member in inner], outer.label)
    _refuse_other_classes([member.name.rpartition("/")[2].removesuffix(".tar") for member in inner], outer.label)

    def listed(member: Member) -> Listing:
        name = member.name.rpartition("/")[2].removesuffix(".tar")
        label = f"{outer.label}: {printable(member.name)}"
        window = outer.inside(member, label=label)
        found = Listing().add(window, FileFilter(), start=member.offset, prefix=f"{name}/")
        sort_files(found.rows(), label=label)  # refuses a tar without images
        return found

    listing = Listing()
    for found in several(listed, inner, at_once=isinstance(outer, ObjectWindow)):
        listing.extend(found)
    return listing


def _label_classes(listing: Listing, options: SourceOptions) -> Resolved:
    if options.split != "train":
        raise OptionError(f"a tar of class tars is the training set, got --split {options.split}")
    images, _, notices = sort_files(listing.rows(), label="the training set")
    refuse_twice([listing.names[index] for index in images], "the training set")
    classes = [listing.names[index].partition("/")[0] for index in images]
    return Resolved(np.array(images), label_by_name(classes, options.classes), notices)


def _label_flat(listing: Listing, path: Place, options: SourceOptions) -> Resolved:
    if options.split == "train":
        flat = not any("/" in name for name in listing.names)
        if flat:
            raise OptionError(f"{path.name} is flat: it is no training set; --split val or test reads it")
        return resolve_tree(
            listing.rows(), classes=options.classes, label=path.name, asked=FileFilter(options.subtree).asked
        )
    refuse_other_split(path.name, options.split)
    resolved = resolve_tree(listing.rows(), label=path.name, folders=False)
    wnids = validation_wnids([path.parent], options) if options.split == "val" else None
    return Resolved(resolved.order, _flat_labels(wnids, len(resolved.order), options), resolved.notices)


def _flat_labels(wnids: list[str] | None, count: int, options: SourceOptions) -> Labelled:
    if wnids is None:
        return unlabelled(count)
    if len(wnids) != count:
        raise SourceError(f"{len(wnids)} labels for {count} validation images; there must be one line an image")
    return label_by_name(wnids, options.classes)
