"""Errors for the person who meets them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from onnx_geed.safe_names import one_line, plain, without_secrets
from onnx_geed.wording import bare, worded

__all__ = [
    "OUT_OF_MEMORY",
    "GeedError",
    "check_choice",
    "known_names",
    "looking_at",
    "nearest",
    "of_group",
    "one_of",
    "reason_of",
    "refuse_unknown",
    "shown",
    "without_secrets",
]


#: What to do where a system has no more memory.
OUT_OF_MEMORY = "out of memory: use a smaller --batch-size or --memory, or fewer layers"


# Letters of a message; the command line tells less.
_LONGEST = 1000


# Letters of what a library says.
_LONGEST_REASON = 160


# How parsers of Python, by which NumPy reads the heads of its files, tell that they cannot.
_UNPARSED = ("malformed node", "cannot parse header", "could not parse dtype")


class GeedError(Exception):
    """Wrong usage or input.

    The message is one line: what was asked, what was found, what to do. The command line prints it
    and exits with status 2; in Python it ends with the arguments that it names as options. Keys and
    tokens in an address are cut from it.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(without_secrets(bare(str(message))), _LONGEST))

    def __str__(self) -> str:
        """Return the message, for whoever called: a command, or a function in Python."""
        return worded(super().__str__())


def nearest(name: str, candidates: Iterable[str], n: int = 3) -> str:
    """Suggest close names, for the end of an error message.

    Parameters
    ----------
    name : str
        The name that the user wrote.
    candidates : iterable of str
        Names that would have been understood.
    n : int
        The most names to suggest.

    Returns
    -------
    str
        ``" Did you mean 'a' or 'b'?"``, or the empty string where nothing is close.
    """
    options = list(dict.fromkeys(candidates))
    close = difflib.get_close_matches(name, options, n=n, cutoff=0.55)
    if name:
        close += [c for c in options if name.lower() in c.lower() and c not in close]
    if not close:
        return ""
    return f" Did you mean {' or '.join(repr(c) for c in close[:n])}?"


def shown(value: object) -> str:
    """Return a value as an error message shows it: short, on one line.

    Of an array its shape is told, of a function or class its name.
    """
    try:
        if isinstance(shape := getattr(value, "shape", None), tuple) and shape:
            return f"an array of shape {shape}"[:60]
        if isinstance(named := getattr(value, "__qualname__", None), str):
            return f"{'the class' if isinstance(value, type) else 'the function'} {plain(named)}"[
                :60
            ]
        text = str.__str__(value if isinstance(value, str) else _told(value))
    except Exception:  # whose own repr fails is named by its type
        text = type(value).__name__
    # Where an object lies in memory tells nobody anything.
    text = re.sub(r" at 0x[0-9A-Fa-f]+(?=>)", "", " ".join(text[:1000].split()))
    text = plain(text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _told(value: object) -> str:
    """Return Python's text of a value, but of a date or time, such as TOML has, its own."""
    if isinstance(value, list | tuple | dict) and "datetime." in repr(value):
        if isinstance(value, dict):
            return f"{{{', '.join(f'{key!r}: {_told(v)}' for key, v in value.items())}}}"
        return f"[{', '.join(map(_told, value))}]"
    return str(value) if hasattr(value, "isoformat") else repr(value)


def reason_of(error: BaseException) -> str:
    """Return what an error of a library says, in one short line.

    Parameters
    ----------
    error : Exception
        What went wrong. Its number, its tuple of arguments, the classes and addresses of objects,
        which say nothing to people, are left out.

    Returns
    -------
    str
    """
    try:
        said = str(error)
    except Exception:  # of another's class
        said = ""
    if isinstance(error, OSError) and error.strerror:
        said = error.strerror
    elif isinstance(error, UnicodeError):
        said = "not UTF-8 text"
    elif isinstance(error, KeyError):
        said = f"{shown(error.args[0])} is missing" if error.args else "something is missing"
    elif isinstance(error, SyntaxError) or type(error).__name__ == "TokenError":
        said = _UNPARSED[0]
    elif len(error.args) > 1 and said == str(error.args) and isinstance(error.args[0], str):
        said = error.args[0]
    if said.lower().lstrip().startswith(_UNPARSED):
        said = "the description at its start is damaged"
    said = re.sub(r"<[^<>]*? at 0x[0-9A-Fa-f]+>", "an object", said)
    return (said.strip().splitlines() or [type(error).__name__])[0][:_LONGEST_REASON]


@contextmanager
def looking_at(name: str, value: object) -> Iterator[None]:
    """Refuse a value of another's class that fails when it is looked at.

    Raises
    ------
    GeedError
        If anything else is raised meanwhile, for want of memory apart.
    """
    try:
        yield
    except (GeedError, MemoryError):
        raise
    except Exception as error:
        raise GeedError(
            f"{name}: the {type(value).__name__} that was given fails when it is looked at "
            f"({reason_of(error)}); give a plain value"
        ) from None


def of_group(group: str, error: Exception) -> str:
    """Return what went wrong under one of several groups, which is named once.

    Parameters
    ----------
    group : str
        The group, as the user wrote it.
    error : Exception
        What went wrong; its message may name the group already.
    """
    said, named = str(error), f"group {group}"
    return said if said.lower().startswith(named.lower()) else f"{named}: {said}"


def known_names(names: Sequence[str]) -> str:
    """Return names as a sentence lists them: ``a, b and c``."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def one_of(names: Sequence[str]) -> str:
    """Return names of which one is to be chosen: ``a, b or c``."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def check_choice(option: str, value: object, choices: Sequence[str]) -> str:
    """Return a value if it is one of a few texts.

    Parameters
    ----------
    option : str
        The option, as the user writes it, such as ``--support``.
    value : object
        The value that the user gave.
    choices : sequence of str
        The texts that are allowed.

    Returns
    -------
    str

    Raises
    ------
    GeedError
        If it is none of the choices, naming them and the nearest.
    """
    if isinstance(value, str) and value in choices:
        return str(value)
    near = nearest(value, choices) if isinstance(value, str) else ""
    raise GeedError(f"{option} {shown(value)}: choose {one_of(choices)}.{near}")


def refuse_unknown(unknown: Iterable[str], names: Sequence[str]) -> None:
    """Refuse the first of some names that are no options.

    Parameters
    ----------
    unknown : iterable of str
        Names that were not understood.
    names : sequence of str
        Those that would have been.

    Raises
    ------
    GeedError
        If there is one.
    """
    for name in unknown:
        raise GeedError(
            f"no option is called {name!r}; choose from {known_names(names)}.{nearest(name, names)}"
        )
