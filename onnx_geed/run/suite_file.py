"""A suite as a TOML file: models × data × groups × measures, checked before anything runs."""

from __future__ import annotations

import glob
import itertools
import os
import re
import threading
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

from onnx_geed.addresses import (
    address_of,
    asking,
    close_names,
    exists,
    is_file,
    leaf,
    named_place,
    opened,
    sibling,
)
from onnx_geed.arguments import checked
from onnx_geed.copies import copy_file, read_by_copy
from onnx_geed.errors import GeedError, nearest, reason_of, shown
from onnx_geed.held import ALLOWED, read_held
from onnx_geed.measures import parse_request
from onnx_geed.run.fit_requests import (
    FIT_OPTIONS,
    refuse_idle_fit_options,
    without_idle_fit_options,
)
from onnx_geed.run.options import Options, check_option, names_files
from onnx_geed.run.path_pattern import PLACE, PathPattern
from onnx_geed.safe_names import file_name

__all__ = ["Cell", "Suite", "read_suite"]

_KEYS = ("title", "groups", "measures", "options", "models", "data")


_ENTRIES = {
    "models": ("name", "path", "measures", "options"),
    "data": ("name", "path", "options"),
}


# Measures stand beside the options, and layers are a cache's.
_OPTIONS = tuple(f.name for f in fields(Options) if f.name not in ("measures", "layers"))


# Bytes of a suite, of one line of it, and keys in keys: for these the reader of TOML takes time and
# memory that grow with their square.
_LONGEST, _LONGEST_LINE, _MOST_PARTS = 1 << 20, 1 << 16, 30


# Files that a pattern may fit, and seconds of looking for them.
_MOST_FILES, _LONGEST_SEARCH = 100_000, 20.0

# Runs of a suite: a second each, they take more than a day.
_MOST_CELLS = 100_000


# Where points separate no keys: texts and remarks.
_QUOTED = re.compile(rb"\"[^\"]*\"|'[^']*'|#.*")


@dataclass(frozen=True)
class Cell:
    """One run of a suite: a model file on some data under a group.

    Parameters
    ----------
    model, data, group : str
        Names, as the suite gives them.
    acting : str
        The group as it is measured: a folder that it names is one beside the suite.
    seed, step : int or None
        The numbers that ``{seed}`` and ``{step}`` stood for in the model's path.
    path, source : str
        The model's file, and DATA.
    measures : tuple of str
        Measures, as the command line takes them.
    options : dict of str to object
        Fields of :class:`onnx_geed.Options`.
    """

    model: str
    data: str
    group: str
    acting: str
    seed: int | None
    step: int | None
    path: str
    source: str
    measures: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def called(self) -> str:
        """The model, and which of its files."""
        seed = "" if self.seed is None else f" seed {self.seed}"
        return f"{self.model}{seed}" + ("" if self.step is None else f" step {self.step}")

    @property
    def name(self) -> str:
        """The cell's name, which its result file bears: readable, and safe on any file system."""
        parts = [self.model]
        parts += [f"seed{self.seed}"] if self.seed is not None else []
        parts += [f"step{self.step}"] if self.step is not None else []
        return file_name(*parts, self.data, self.group)

    def __str__(self) -> str:
        return f"{self.called}, {self.data}, {self.group}"


@dataclass(frozen=True)
class Suite:
    """A suite: its title and its runs.

    Parameters
    ----------
    title : str
        Its own title, or the file's name.
    cells : tuple of Cell
        Runs: by model, seed, step, data and group, in the order of the file.
    """

    title: str
    cells: tuple[Cell, ...]


@checked
def read_suite(path: str | Path) -> Suite:
    """Read a suite.

    Parameters
    ----------
    path : str or Path
        The TOML file, or its address. Paths in it are relative to its folder, and may be
        addresses too.

    Returns
    -------
    Suite

    Raises
    ------
    GeedError
        If there is no such file, or it is not TOML.
        If a key is unknown, missing or of the wrong kind, naming it.
        If a path fits no file, or two files are told apart by nothing.
    """
    path = named_place(path)
    content = _read_toml(path)
    _check_keys(path, content, _KEYS, "")
    for key in ("groups", "models", "data"):
        if not content.get(key):
            raise GeedError(f"{path}: has no {key}; a suite lists models, data and groups")
    title = _text(path, content.get("title") or PurePosixPath(leaf(path)).stem, "title")
    groups = _texts(path, content["groups"], "groups")
    acting = [_acting(path, name, f"groups[{i}]") for i, name in enumerate(groups)]
    shared = _options(path, content.get("options", {}), "options")
    common = _measures(path, content.get("measures", []), "measures")
    data = [
        (entry["name"], _data_path(path, entry["path"], f"{key}.path"), data_options)
        for key, entry, data_options in _entries(path, content, "data")
    ]
    cells: list[Cell] = []
    for key, entry, model_options in _entries(path, content, "models"):
        measures = _measures(path, entry.get("measures", common), f"{key}.measures")
        files = _files(path, entry, key)
        runs = len(cells) + len(files) * len(data) * len(groups)
        if runs > _MOST_CELLS:
            raise GeedError(
                f"{path}: up to {key} these are {runs:,} runs (models × data × groups), but a "
                f"suite has at most {_MOST_CELLS:,}; make several suites"
            )
        for name, seed, step, file in files:
            for data_name, source, data_options in data:
                cells += [
                    Cell(
                        model=name,
                        data=data_name,
                        group=group,
                        acting=acts,
                        seed=seed,
                        step=step,
                        path=file,
                        source=source,
                        measures=tuple(measures),
                        # The narrower one wins; a model knows best how it is to be read.
                        options={**shared, **data_options, **model_options},
                    )
                    for group, acts in zip(groups, acting, strict=True)
                ]
    _check_names_differ(path, cells)
    _check_fits(path, cells)
    return Suite(title, tuple(cells))


def _check_fits(path: str | Path, cells: Sequence[Cell]) -> None:
    """Refuse options of fits in a suite of which no run fits anything."""
    try:
        idle = [n for cell in cells for n in FIT_OPTIONS if n in cell.options]
        kept = (without_idle_fit_options(cell.options) for cell in cells)
        if idle and all(one.keys().isdisjoint(FIT_OPTIONS) for one in kept):
            refuse_idle_fit_options(idle)
    except GeedError as error:
        raise GeedError(f"{path}: {error}") from None


@read_by_copy(copy_file)
def _read_toml(path: str | Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_bounded(path).decode())
    except FileNotFoundError:
        raise GeedError(f"{path}: no such file; a suite is a TOML file") from None
    except IsADirectoryError:
        raise GeedError(f"{path}: is a folder; a suite is a TOML file") from None
    except OSError as error:
        raise GeedError(f"{path}: cannot be read ({reason_of(error)})") from None
    except RecursionError:
        raise GeedError(
            f"{path}: its lists and tables lie in each other too deep; a suite needs three levels"
        ) from None
    except ValueError as error:  # TOMLDecodeError, and numbers of 5,000 digits
        raise GeedError(f"{path}: is not TOML ({error})") from None


def _bounded(path: str | Path) -> bytearray:
    """Return the content of a file that can be read as TOML in no time."""
    content = read_held(path, str(path), ALLOWED)
    if len(content) > _LONGEST:
        raise GeedError(
            f"{path}: has {len(content):,} bytes, but a suite at most {_LONGEST:,}; take patterns "
            "of files, or several suites"
        )
    for number, line in enumerate(content.split(b"\n"), 1):
        parts = _QUOTED.sub(b"", line).count(b".") if line.count(b".") > _MOST_PARTS else 0
        if len(line) > _LONGEST_LINE or parts > _MOST_PARTS:
            raise GeedError(
                f"{path}: line {number:,} has {len(line):,} bytes, or a key of over {_MOST_PARTS} "
                f"parts; a line of a suite has at most {_LONGEST_LINE:,}"
            )
    return content


def _check_keys(path: str | Path, table: Any, allowed: Sequence[str], where: str) -> None:
    if not isinstance(table, dict):
        raise GeedError(
            f"{path}: {where} is a table of keys and values, found {_found_kind(table)}"
        )
    for key in table:
        if key not in allowed:
            full = f"{where}.{key}" if where else key
            raise GeedError(
                f"{path}: unknown key {full}; choose from "
                f"{', '.join(allowed)}.{nearest(key, allowed)}"
            )


def _found_kind(value: Any) -> str:
    if isinstance(value, str):
        return f"the text {shown(value)!r}" if value else "an empty text"
    names = {dict: "a table", list: "a list", bool: "true or false"}
    # What is none of these is a date or a time.
    kind = "number" if isinstance(value, int | float) else "time"
    return names.get(type(value), f"the {kind} {str(value)[:60]}")


def _text(path: str | Path, value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise GeedError(f"{path}: {where} is a text in quotes, found {_found_kind(value)}")
    return value


def _texts(path: str | Path, value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
        raise GeedError(f'{path}: {where} is a list of texts, such as ["a", "b"]')
    if len(set(value)) < len(value):
        twice = next(v for v in value if value.count(v) > 1)
        raise GeedError(f"{path}: {where} holds {twice!r} twice")
    return value


def _measures(path: str | Path, value: Any, where: str) -> list[str]:
    """Return measures by their texts, each of which there is."""
    texts = _texts(path, value, where)
    for i, text in enumerate(texts):
        try:
            parse_request(text)
        except GeedError as error:
            raise GeedError(f"{path}: {where}[{i}]: {error}") from None
    return texts


def _entries(
    path: str | Path, content: Mapping[str, Any], key: str
) -> Iterable[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield where an entry of models or data stands, the entry, and its own options."""
    listed = content[key]
    if not isinstance(listed, list):
        raise GeedError(f"{path}: {key} is a list of tables, each headed [[{key}]]")
    for i, entry in enumerate(listed):
        where = f"{key}[{i}]"
        _check_keys(path, entry, _ENTRIES[key], where)
        for needed in ("name", "path"):
            if needed not in entry:
                raise GeedError(f"{path}: {where}.{needed} is missing")
            _text(path, entry[needed], f"{where}.{needed}")
        yield where, entry, _options(path, entry.get("options", {}), f"{where}.options")


def _options(path: str | Path, table: Any, where: str) -> dict[str, Any]:
    """Check options; they are spelled as on the command line, with - or _."""
    spelled = {name.replace("_", "-"): name for name in _OPTIONS}
    _check_keys(path, table, [*spelled, *(n for n in _OPTIONS if "_" in n)], where)
    checked: dict[str, Any] = {}
    for key, value in table.items():
        name, full = key.replace("-", "_"), f"{where}.{key}"
        try:
            check_option(name, value)
        except GeedError as error:
            message = str(error).removeprefix(f"--{name.replace('_', '-')}").lstrip()
            raise GeedError(f"{path}: {full} {message}") from None
        if name in checked:
            raise GeedError(f"{path}: {full} is there twice, with - and with _")
        if names_files(name):  # which are looked for beside the suite
            if isinstance(value, dict):
                value = {k: _beside_suite(path, v) for k, v in value.items()}
            elif isinstance(value, str):
                value = _beside_suite(path, value)
        checked[name] = value
    try:
        Options(**checked)
    except GeedError as error:
        raise GeedError(f"{path}: {where}: {error}") from None
    return checked


def _beside_suite(path: str | Path, text: str) -> str:
    """Return a file's path from where the suite is, where there is such a file, also FILE:KEY."""
    if address_of(text) is not None:
        return text
    beside = sibling(path, text)
    file, colon, _ = text.rpartition(":")
    there = exists(beside) or bool(colon and file and is_file(sibling(path, file)))
    return str(beside) if there else text


def _acting(path: str | Path, group: str, where: str) -> str:
    """Return a group with the folder of its backgrounds, if it has one, beside the suite."""
    kind, _, text = group.partition(":")
    folder, _, count = text.rpartition("/")
    if kind != "background" or not folder:
        return group
    return f"{kind}:{_data_path(path, folder, where)}/{count}"


def _data_path(path: str | Path, text: str, where: str) -> str:
    if address_of(text) is not None:
        return text  # which is asked when its first cell runs
    beside = sibling(path, text)
    if exists(beside):
        return str(beside)
    # FILE:KEY, of which the file is beside the suite; else module:function.
    file, colon, _ = text.rpartition(":")
    if colon and file and is_file(sibling(path, file)):
        return str(beside)
    if colon and re.fullmatch(r"[\w.]+:[\w.]+", text):
        return text
    raise GeedError(f"{path}: {where}: there is nothing at {beside}.{_near(beside)}")


def _near(beside: str | Path) -> str:
    if (address := address_of(beside)) is not None:
        return close_names(*opened(address))
    path = Path(beside)
    try:
        return nearest(path.name, os.listdir(path.parent))
    except OSError:
        return f" There is no folder {path.parent}."


def _files(
    path: str | Path, entry: Mapping[str, Any], key: str
) -> list[tuple[str, int | None, int | None, str]]:
    """Return name, seed, step and file of whatever fits a model's path."""
    pattern, name = entry["path"], entry["name"]
    places = set(PLACE.findall(pattern))
    for place in PLACE.findall(name):
        if place not in places or place in ("seed", "step"):
            raise GeedError(
                f"{path}: {key}.name has {{{place}}}, but {key}.path has no such placeholder; it "
                f"has {', '.join(sorted(places - {'seed', 'step'})) or 'none'}"
            )
    files = []
    for file, parts in _matches(path, pattern):
        seed, step = (int(parts[k]) if k in parts else None for k in ("seed", "step"))
        files.append((_fill_places(name, parts), seed, step, file))
    if not files:
        folder = "" if address_of(path) or address_of(pattern) else f" in {_home(path).resolve()}"
        raise GeedError(
            f"{path}: {key}.path: no file matches {pattern}{folder}; {{seed}} and {{step}} stand "
            "for whole numbers"
        )
    order = {model: i for i, model in enumerate(sorted({f[0] for f in files}))}
    return sorted(files, key=lambda f: (order[f[0]], f[1] or 0, f[2] or 0, f[3]))


def _home(suite: str | Path) -> Path:
    return Path(suite).parent


def _matches(suite: str | Path, pattern: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the files that fit a path with places, and what stands in these."""
    address = address_of(pattern) or address_of(sibling(suite, pattern))
    if address is None:
        form = PathPattern(Path(pattern).as_posix())
        for file in _found(suite, PLACE.sub("*", pattern)):
            if (parts := form.match(Path(file).as_posix())) is not None:
                yield str(_home(suite) / file), parts
        return
    system, path = opened(address)
    form = PathPattern(path)
    with asking(address, system, path):
        found = system.glob(PLACE.sub("*", path))
    for file in found:
        if (parts := form.match(str(file))) is not None:
            yield str(system.unstrip_protocol(file)), parts


def _found(suite: str | Path, pattern: str) -> list[str]:
    """Return what fits a pattern, which may be one for all that there is on the machine."""
    found: list[str] = []
    ended: list[BaseException | None] = []

    def look() -> None:
        try:
            every = glob.iglob(pattern, root_dir=_home(suite), recursive=True)
            found.extend(itertools.islice(every, _MOST_FILES + 1))
            ended.append(None)
        except BaseException as error:
            ended.append(error)

    # Nothing else ends a search that finds nothing; what is left of it ends with the process.
    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(_LONGEST_SEARCH)
    if not ended or len(found) > _MOST_FILES:
        what = f"fits over {_MOST_FILES:,} files" if ended else "is looked for in too many folders"
        raise GeedError(f"{suite}: {shown(pattern)} {what}; name the folder of the models")
    if (error := ended[0]) is not None:
        raise error
    return found


def _fill_places(name: str, parts: Mapping[str, str]) -> str:
    return PLACE.sub(lambda place: parts[place[1]], name)


def _check_names_differ(path: str | Path, cells: Sequence[Cell]) -> None:
    """Two runs of one name would overwrite each other, and count as one model."""
    seen: dict[str, Cell] = {}
    for cell in cells:
        # As file systems see it that do not tell capitals apart.
        twin = seen.setdefault(cell.name.lower(), cell)
        if twin is not cell:
            twins = (
                f"{twin.path} and {cell.path} are both called '{twin.model}'"
                if (twin.data, twin.group) == (cell.data, cell.group)
                else f"'{twin}' and '{cell}' have the same name"
            )
            raise GeedError(
                f"{path}: {twins}; give them different names, or distinguish them by {{seed}}, "
                "{step} or another {word} in path and name"
            )
