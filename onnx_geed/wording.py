"""Options of the command line as a caller in Python writes them, at the end of an error's message.

Messages name what is to be changed by its option, such as ``--input-layout x=NCT``. Whoever calls a
function has arguments instead: ``input_layout={'x': 'NCT'}``. While a command runs, its options are
enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ARGUMENTS", "as_arguments", "bare", "on_command_line", "worded"]

# What each argument takes: n a number, s a text, m texts by name, l a list of texts, f yes or no,
# x a text or texts by name. Data and group are not among them: every call gives them.
_KINDS = {
    "n": "samples norm-samples seed batch-size precision fit-samples time-per-sample",
    "m": "layout output-action feed mask target",
    "x": "input-layout",
    "l": "measure layer",
    "f": "references untrained clip fit-anyway force",
    "s": "provider memory interval interpolation support components input output "
    "output-kind latent preprocess labels masks background engine executor address shard "
    "cache-mode cache-dtype",
}

# Arguments that are called otherwise than their options.
_OTHERS = {"measure": "measures", "layer": "layers", "cache-mode": "mode", "cache-dtype": "dtype"}

_KIND = {option: kind for kind, options in _KINDS.items() for option in options.split()}

#: The argument of each option that has one.
ARGUMENTS = {option: _OTHERS.get(option, option.replace("-", "_")) for option in _KIND}

# Words that are a value where they follow an option; other words go on with the sentence.
_WORDS = (
    *("auto", "cpu", "cuda", "t", "bootstrap", "wilson", "bilinear", "nearest", "bicubic", "full"),
    *("disk", "logits", "probabilities", "embedding", "kernels", "graph", "local", "ray", "raw"),
    *("stats", "float32", "float16", "imagenet"),
)

_VALUE = rf"'[^']*'|\"[^\"]*\"|(?:{'|'.join(_WORDS)})(?![\w=-])|[^\s,;:()]*[A-Z0-9=@][^\s,;()]*"
_OPTION = re.compile(rf"(?<![\w-])--([a-z][a-z-]*[a-z])(?: ({_VALUE}))?")
_SAID = re.compile(r" \(in Python: [^\n]*?\)(?=$|[;,.:] | )")

# Options that are named at most: a message is one line.
_MOST = 4

_medium = {"command": False}


@contextmanager
def on_command_line() -> Iterator[None]:
    """Leave messages as they are, for as long as a command runs."""
    before, _medium["command"] = _medium["command"], True
    try:
        yield
    finally:
        _medium["command"] = before


def worded(message: str) -> str:
    """Return a message for whoever called: in Python with the arguments that it names as options.

    Parameters
    ----------
    message : str
        A message that names options.

    Returns
    -------
    str
        The same while a command runs, and where no option is named that is an argument too.
    """
    arguments = [] if _medium["command"] or "--" not in message else as_arguments(message)
    return f"{message} (in Python: {', '.join(arguments)})" if arguments else message


def bare(message: str) -> str:
    """Return a message without what was added for a caller in Python: it is part of another."""
    return _SAID.sub("", message) if " (in Python: " in message else message


def as_arguments(message: str) -> list[str]:
    """Return the arguments that a message names as options.

    Parameters
    ----------
    message : str
        The message.

    Returns
    -------
    list of str
        Such as ``["input_layout={'x': 'NCT'}"]``, each once, the first few of them.
    """
    found: dict[str, str] = {}
    for match in _OPTION.finditer(message):
        option, value = match[1], match[2] or ""
        # A message that begins with a flag is about it, and says to leave it out.
        if option in ARGUMENTS and not (_KIND[option] == "f" and match.start() == 0):
            argument = ARGUMENTS[option]
            told = _told(_KIND[option], value.strip("'\"").rstrip(":."))
            if not found.get(argument) and (told or option != "data"):
                found[argument] = told
    return [f"{argument}={told}" for argument, told in found.items()][:_MOST]


def _told(kind: str, value: str) -> str:
    """Return a value as Python has it; nothing where the message names the option alone."""
    if kind == "f":
        return "True"
    if not value or (kind == "n" and not re.fullmatch(r"[\d.e+-]+|[A-Z]", value)):
        return ""
    if kind == "n":
        return value
    name, equals, own = value.partition("=")
    if equals and kind in "mx":
        return f"{{{name!r}: {own!r}}}"
    if kind == "m":
        return ""
    return f"[{value!r}]" if kind == "l" else repr(value)
