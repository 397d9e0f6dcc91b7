"""`python -m codeformer_core weights list | download | convert | export | verify`: for users."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ..weights.catalog import CATALOG, CatalogEntry, find_entry, unknown_name
from ..weights.download import DownloadError, download, mismatch, sha256_of
from ..weights.folders import ASSETS_FOLDER, default_roots, download_folder, find_weights, search_folders
from ..weights.safetensors_cache import copy_path, is_current, origin, write_safetensors
from . import export_onnx
from .errors import INTERRUPTED, Stopped, one_line

if TYPE_CHECKING:
    from tqdm import tqdm

    from ..models.architecture import Layout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the four verbs; `run` takes what it parsed."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list|download|convert|export|verify")
    verbs.add_parser("list", help="every known file: licence, size, whether it is installed")

    fetch = verbs.add_parser("download", help="fetch files by their catalog name")
    fetch.add_argument("names", nargs="+", metavar="NAME", help="a name that `list` shows, or a file's name")
    fetch.add_argument("--folder", type=Path, help="put the files here (default: the models folder `list` shows)")

    convert = verbs.add_parser("convert", help="write a checkpoint as safetensors, with published or our keys")
    convert.add_argument("file", type=Path, metavar="FILE")
    convert.add_argument("-o", "--output", type=Path, metavar="OUT", help="default: FILE with the ending .safetensors")
    convert.add_argument(
        "--layout",
        choices=("published", "ours"),
        default="published",
        help="published: the keys other programs read (default); ours: the keys of codeformer_core's modules",
    )

    export_onnx.add_arguments(verbs.add_parser("export", help="write a CodeFormer as ONNX, for programs without torch"))

    verify = verbs.add_parser("verify", help="compare files with the catalog's hashes")
    verify.add_argument("files", nargs="*", type=Path, metavar="FILE", help="default: every catalog file installed")


def run(args: argparse.Namespace) -> int:
    """Carry out what `add_arguments` parsed; prints, and returns the exit code."""
    if args.verb == "list":
        return _list(default_roots())
    if args.verb == "download":
        return _download(args.names, args.folder, default_roots())
    if args.verb == "convert":
        return _convert(args.file, args.output, args.layout)
    if args.verb == "export":
        return _export(args)
    return _verify(args.files, default_roots())


def _list(roots: Sequence[Path]) -> int:
    rows = [("name", "task", "size", "hash", "licence", "installed")]
    for entry in CATALOG:
        found = find_weights(entry, roots)
        rows.append(
            (
                entry.name,
                entry.task,
                _size_text(entry.size) if entry.size else "unknown",
                _trust(entry),
                entry.licence,
                _place(entry, found),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("\nDownloads go below " + str(roots[0]) + "; files are looked for in:" if roots else "")
    for root in roots:
        print(f"  {root}")
    return 0


def _trust(entry: CatalogEntry) -> str:
    if entry.sha256 is None:
        return "unknown"
    return "confirmed" if entry.sha256_confirmed else "one source"


def _place(entry: CatalogEntry, found: Path | None) -> str:
    if found is None:
        by_hand = f"; by hand: `weights download {entry.name}` says how"
        return "not installed" + (by_hand if entry.by_hand is not None else "")
    return f"{found} (comes with the package)" if found.parent == ASSETS_FOLDER else str(found)


def _download(names: Sequence[str], folder: Path | None, roots: Sequence[Path]) -> int:
    entries: list[CatalogEntry] = []
    for name in names:
        entry = find_entry(name)
        if entry is None:
            return _complain(unknown_name(name))
        entries.append(entry)
    failed = 0
    for entry in entries:
        installed = find_weights(entry, roots) if folder is None or entry.url is None else None
        if installed is not None:
            print(f"{entry.name}: already installed as {installed}")
            continue
        target = folder if folder is not None else download_folder(entry, roots)
        print(f"{entry.name}: {entry.filename}, {_size_text(entry.size)}, to {target}")
        print(f"  licence: {entry.licence} ({entry.licence_note})", flush=True)
        line = _ProgressLine(entry.filename)
        try:
            path = download(entry, target, line)
        except DownloadError as error:
            line.end()
            _complain(str(error))
            failed += 1
        except KeyboardInterrupt as stop:
            line.end()
            _tell_stopped(entry, target)
            return stop.exit_code if isinstance(stop, Stopped) else INTERRUPTED
        else:
            line.end()
            print(f"  {path}")
    return 1 if failed else 0


def _tell_stopped(entry: CatalogEntry, folder: Path) -> None:
    part = folder / f"{entry.filename}.part"
    kept = "nothing had arrived yet"
    if part.exists():
        kept = f"{part.stat().st_size:,} bytes are kept in {part}; the same command continues from there"
    _complain(f"{entry.filename}: stopped; {kept}")


class _ProgressLine:
    """tqdm's bar in a terminal; a line per tenth of the file in a log, which its carriage returns would spoil."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bar: tqdm[NoReturn] | None = None
        self.tenth = -1

    def __call__(self, done: int, total: int | None) -> None:
        if sys.stderr.isatty():
            self._draw(done, total)
        elif total and 10 * done // total != self.tenth:
            self.tenth = 10 * done // total
            text = f"  {self.name} {100 * done // total:3d} % {_size_text(done)} of {_size_text(total)}"
            print(text, file=sys.stderr, flush=True)

    def _draw(self, done: int, total: int | None) -> None:
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(desc=f"  {self.name}", initial=done, unit="B", unit_scale=True, unit_divisor=1024)
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def end(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _convert(file: Path, output: Path | None, layout: Layout) -> int:
    # Here and not above: these bring torch, which `list` and `download` don't need.
    from ..models.checkpoints import open_checkpoint
    from ..weights.metadata import CheckpointMetadata
    from ..weights.reading import WeightsError

    target = copy_path(file) if output is None else output
    if target.suffix.lower() != ".safetensors":
        return _complain(f"{target}: only safetensors are written; choose a name that ends in .safetensors")
    if target.exists():
        return _complain(f"{target} is there already; name another file with -o, or move it away")
    try:
        opened = open_checkpoint(file)
        checkpoint, metadata = opened.checkpoint, opened.metadata
        if problem := checkpoint.architecture.layout_problem(checkpoint.config, layout):
            return _complain(f"{file}: {problem}: --layout ours")
        state = checkpoint.in_layout(opened.state, layout)
    except WeightsError as error:
        return _complain(str(error))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # What our own files say about themselves goes along, and what a published file's name says.
        if metadata is None and checkpoint.task_source == "file":
            metadata = CheckpointMetadata(checkpoint.architecture.id, checkpoint.task, also=checkpoint.also)
        header = {} if metadata is None else metadata.to_header()
        write_safetensors(state, target, {"layout": layout, "converted_from": file.name, **header})
    except OSError as error:
        return _complain(f"{target} can't be written: {error.strerror or error}")
    what = f"{checkpoint.architecture.id} ({checkpoint.tasks_in_words})"
    print(f"{target}: {what}, {len(state)} tensors, {layout} layout")
    return 0


def _export(args: argparse.Namespace) -> int:
    try:
        print(export_onnx.run(args))
    except (ValueError, ImportError, OSError) as error:
        return _complain(one_line(error))
    return 0


def _verify(files: Sequence[Path], roots: Sequence[Path]) -> int:
    wanted = list(files) or _installed(roots)
    if not wanted:
        print("no file of the catalog is installed; `weights list` shows what there is")
        return 0
    # Every file is looked at, and reported, before the exit code tells of the bad ones.
    return 1 if [path for path in wanted if not _verify_one(path, print)] else 0


def _installed(roots: Sequence[Path]) -> list[Path]:
    """Every file with a catalog name below `roots`, pickles and their copies alike."""
    found = [
        path
        for entry in CATALOG
        for folder in search_folders(entry, roots)
        for name in (entry.filename, *entry.aliases)
        for path in dict.fromkeys((folder / name, copy_path(folder / name)))
        if path.is_file()
    ]
    return list(dict.fromkeys(found))


def _verify_one(path: Path, say: Callable[[str], None]) -> bool:
    """Whether nothing speaks against `path`."""
    if not path.is_file():
        say(f"MISSING   {path}")
        return False
    entry = find_entry(path.name)
    # Other safetensors may be copies of pickles.
    if path.suffix == ".safetensors" and (entry is None or path.name != entry.filename):
        return _verify_copy(path, say)
    try:
        problem = mismatch(path, entry) if entry else None
        found = sha256_of(path) if entry is None else ""
    except OSError as error:
        say(f"UNREADABLE {path}: {error.strerror or error}")
        return False
    if entry is None:
        twin = next((other for other in CATALOG if other.sha256 == found), None)
        if twin is None:
            say(f"UNKNOWN   {path}: sha256 {found}")
        else:
            say(f"GOOD      {path}: {twin.name}, told by its hash")
        return True
    if problem is None and entry.sha256 is None:
        say(f"UNKNOWN   {path}: {entry.name} by its name, of which no hash is known; sha256 {sha256_of(path)}")
        return True
    if problem is None:
        say(f"GOOD      {path}: {entry.name}{'' if entry.sha256_confirmed else ' (hash from one source)'}")
        return True
    if entry.sha256_confirmed:
        fix = f"run: weights download {entry.name}" if entry.url else entry.how_to_get
        say(f"BAD       {path}: {problem}. Delete it and {fix}")
        return False
    say(f"DIFFERENT {path}: {problem}; that hash is from one source, so the file may still be good")
    return True


def _verify_copy(path: Path, say: Callable[[str], None]) -> bool:
    mark = origin(path)
    if mark is None:
        say(f"UNKNOWN   {path}: sha256 {sha256_of(path)}; no hash of it is known")
        return True
    source = path.with_name(mark["source_file"])
    text = f"a copy of {source.name} ({int(mark['source_size']):,} bytes)"
    if not source.is_file():
        say(f"COPY      {path}: {text}, which is no longer there")
    elif is_current(path, source):
        say(f"COPY      {path}: {text} as it is now")
    else:
        say(f"OUTDATED  {path}: {text} in an older state; it is written again at the next load")
    return True


def _size_text(size: int | None) -> str:
    if size is None:
        return "unknown size"
    for unit, divisor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= divisor:
            return f"{size / divisor:.1f} {unit}"
    return f"{size} bytes"


def _complain(text: str) -> int:
    print(text, file=sys.stderr)
    return 1
