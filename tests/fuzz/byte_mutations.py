"""Mutations of bytes and of lines of text, for what has no other structure."""

from __future__ import annotations

import random
import re

_NUMBERS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\1\0\0\0")
_NUMBERS += (b"\0", b"\xff", b"\x80", b"\0" * 8, b"\xff" * 8, b"\0\0\0\1", b"\0\0\1\0")

_WORDS = ("", "0", "-1", "1", "1.5", "nan", "inf", "-inf", "1e400", "9" * 400, "x", "\x1b[2J", "\0")
_WORDS += ("\u202e", "é", "a" * 3000, "1e-320", "0x10", "1_000", "١", "float", "list", "#", '"')


def damaged(content: bytes, dice: random.Random) -> bytes:
    """Return bytes of which some are changed, cut out, repeated, or become extreme numbers."""
    altered = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 8))):
        # Heads matter most.
        at = dice.randrange(min(len(altered), dice.choice((64, 512, 1 << 30))) + 1)
        what = dice.random()
        if what < 0.3 and at < len(altered):
            altered[at] = dice.randrange(256)
        elif what < 0.5 and at < len(altered):
            altered[at] ^= 1 << dice.randrange(8)
        elif what < 0.7:
            number = dice.choice(_NUMBERS)
            altered[at : at + len(number)] = number
        elif what < 0.8:
            del altered[at : at + dice.choice((1, 4, 5, 100))]
        elif what < 0.9:
            altered[at:at] = altered[at : at + dice.choice((1, 4, 100))]
        else:
            del altered[at:]
    return bytes(altered)


def reworded(content: bytes, dice: random.Random) -> bytes:
    """Return a text of which some words or lines are others."""
    if dice.random() < 0.1:
        return damaged(content, dice)
    lines = content.decode("latin-1").split("\n")
    for _ in range(dice.choice((1, 1, 2, 4))):
        at, what = dice.randrange(len(lines)), dice.random()
        words = re.split(r"(\s+|,)", lines[at])
        if what < 0.55:
            words[dice.randrange(len(words))] = dice.choice(_WORDS)
            lines[at] = "".join(words)
        elif what < 0.65:
            lines[at] = " ".join([*words, dice.choice(_WORDS)])
        elif what < 0.75 and len(lines) > 1:
            del lines[at]
        elif what < 0.85:
            lines.insert(at, dice.choice((dice.choice(lines), dice.choice(_WORDS))))
        elif what < 0.9:
            lines = lines[: at + 1]
        elif what < 0.95:
            lines[at] = lines[at].upper()
        else:
            lines[at], lines[-1] = lines[-1], lines[at]
    ending = dice.choice(("\n", "\n", "\n", "\r\n", "\r"))
    return ending.join(lines).encode(dice.choice(("utf-8", "utf-8", "utf-16")), "replace")
