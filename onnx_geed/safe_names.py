"""Names from files of others, made safe for where they are shown: one function a medium.

Layers, files, classes, elements and models are named by whoever made them. JSON keeps a name as it
is; what a person, a terminal, a spreadsheet, a build server or a browser sees went through here.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

__all__ = [
    "csv_cell",
    "file_name",
    "html_text",
    "json_escaped",
    "line_of",
    "one_line",
    "plain",
    "safe_lines",
    "without_secrets",
    "xml_text",
]

#: The most letters of one word, such as a name or a path, that lines show.
_WORD = 200

# Letters of a word that is not divided where a line is cut.
_SHORT = 30

# The most bytes of a part of a file's name: of 255, the others are for what stands around it.
_FILE = 200


# An address in a sentence, in quotes or in JSON.
_ADDRESS = re.compile(r"(?<=://)[^\s'\"<>\\]+")


# Name and password, or a token, before the host.
_LOGIN = re.compile(r"^[^/?#]*@")


# Values of a query: signatures and tokens among them. What ends a sentence is no part of one.
_VALUE = re.compile(r"([?&;#][^=&;#]*=)[^&;#]*?(?=[&;#]|[:;,.)\]]*$)")


# Spaces that are none of ASCII's.
_SPACES = "".join(map(chr, (0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000)))


_LONG = re.compile(rf"\S{{{_WORD + 1},}}")


# What build servers act on in the output that they log: GitHub at the beginning of a line, and as
# Azure, TeamCity and its own older form anywhere in it.
_COMMAND = re.compile(r"^([^\S\n]*):(?=:.*::)", re.MULTILINE)
_TAGGED = re.compile(r"#(?=#\w*\[)")


# Where a cell begins, also for spreadsheets that take a semicolon for the end of one, before what
# makes a formula of it; signs of full width are read as the others.
_FORMULA = re.compile(r"(^\s*|[;,])(?=[=+\-@＝＋－＠])")


_NUMBERS = re.compile(r"([-+]?\d[\d.]*(e[-+]?\d+)?)?(;([-+]?\d[\d.]*(e[-+]?\d+)?)?)*")


def plain(text: str) -> str:
    """Return a text for one line of a terminal.

    Parameters
    ----------
    text : str
        A name, or a line with names in it.

    Returns
    -------
    str
        Spaces of every kind are a space; what a terminal would act on, or nobody would see, is a
        question mark.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c in _SPACES else "?" for c in text)


def one_line(text: str, most: int) -> str:
    """Return a message as one line of so many letters at most; names give way before words do.

    Parameters
    ----------
    text : str
        What is to be told; its end is what to do, and is kept.
    most : int
        The most letters.

    Returns
    -------
    str
    """
    # Of a text of millions of letters the middle is not even looked at.
    line = plain(" ".join(_cut(text, 16 * most).split()))
    return line if len(line) <= most else _cut_between(_words_cut(line), most)


def safe_lines(text: str) -> str:
    """Return lines as a terminal may have them, or a build server that looks for commands."""
    lines = text if text.isprintable() else "\n".join(map(plain, text.split("\n")))
    return _TAGGED.sub("?", _COMMAND.sub(r"\1?", lines))


def line_of(text: str) -> str:
    """Return a line of a table's head, with long names cut."""
    return _words_cut(plain(text))


def without_secrets(text: str) -> str:
    """Cut keys and tokens from the addresses in a text: what stands before the host, and queries.

    Parameters
    ----------
    text : str
        An address, a sentence, a command line or JSON.

    Returns
    -------
    str
        ``https://***@host/file?token=***``; a text without secrets as it is.
    """

    def cut(address: re.Match[str]) -> str:
        plain = _LOGIN.sub("***@", address[0])
        return _VALUE.sub(r"\1***", plain)

    return _ADDRESS.sub(cut, text) if "://" in text else text


def csv_cell(value: Any) -> Any:
    """Return a cell of CSV that no spreadsheet takes for a formula.

    Parameters
    ----------
    value : object
        A number stands for itself, as do numbers with semicolons between; a text gets an
        apostrophe before what would begin a formula.

    Returns
    -------
    object
    """
    if not isinstance(value, str) or _NUMBERS.fullmatch(value):
        return value
    return _FORMULA.sub(r"\1'", plain(value))


def xml_text(text: str) -> str:
    """Return a text of lines that XML 1.0 can hold."""
    return "\n".join(map(plain, text.split("\n")))


def html_text(value: Any) -> Any:
    """Return a value of a page before it is escaped: nothing unseen in it, and no endless word."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return _words_cut(plain(value))


def json_escaped(text: str) -> str:
    """Return JSON with escapes for what is not seen, so that it reads back as it was.

    What build servers act on is escaped too, wherever it is printed.
    """
    text = _TAGGED.sub(r"\\u0023", text)
    if text.isascii() and "\x7f" not in text:
        return text
    unseen = [letter for letter in set(text) if not letter.isprintable() and letter != "\n"]
    return text.translate({ord(letter): _escape(letter) for letter in unseen}) if unseen else text


def _escape(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def file_name(*parts: str) -> str:
    """Return names of groups, models or pictures as a part of a file's name, with dots between.

    What is longer than a file system takes is cut, and ends with a mark of the whole.
    """
    cleaned = (re.sub(r"[^\w+=-]+", "-", without_secrets(part)).strip("-") for part in parts)
    name = ".".join(part or "-" for part in cleaned)
    content = name.encode()  # file systems count bytes, of which a letter has up to four
    if len(content) <= _FILE:
        return name
    mark = hashlib.sha256(content).hexdigest()[:12]
    return f"{content[: _FILE - 1 - len(mark)].decode(errors='ignore')}-{mark}"


def _words_cut(line: str) -> str:
    return _LONG.sub(lambda word: _cut(word[0], _WORD), line)


def _cut_between(line: str, most: int) -> str:
    """Cut a line in its middle, between words; only a long one, such as a path, is divided."""
    if len(line) <= most:
        return line
    right = (most - 1) // 3
    left, _ = _divided(line, most - 1 - right)
    _, end = _divided(line, len(line) - right)
    return f"{line[:left]}…{line[end:]}"


def _divided(line: str, at: int) -> tuple[int, int]:
    """Return where the word lies that a cut divides; the place itself for a long word."""
    start = line.rfind(" ", 0, at) + 1
    end = line.find(" ", at) if " " in line[at:] else len(line)
    return (start, end) if end - start <= _SHORT else (at, at)


def _cut(text: str, most: int) -> str:
    """Cut a text in its middle; a third is left of its end."""
    if len(text) <= most:
        return text
    right = (most - 1) // 3
    return f"{text[: most - 1 - right]}…{text[len(text) - right :]}"
