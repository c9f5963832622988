"""DNA in FASTA files: one record a sample, one-hot."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.data.rows import Rows
from onnx_geed.errors import GeedError, reason_of
from onnx_geed.groups import parse_layout
from onnx_geed.held import ALLOWED, check_held, read_held

__all__ = ["FASTA", "open_fasta"]

#: How names of FASTA files end.
FASTA = tuple(f"{end}{packed}" for end in (".fa", ".fasta", ".fna") for packed in ("", ".gz"))


# One base, several that it may be (IUPAC's letters), or a gap.
_ONE, _SEVERAL = b"ACGTU", b"RYSWKMBDHVNX-."


# Of a record and of a line, beside their letters, as Python's objects.
_RECORD, _LINE = 400, 50


def open_fasta(
    path: Path, layout: str, where: str, *, masked: bool, allowed: int = ALLOWED
) -> Rows:
    """Open a FASTA file; it is read as a whole, plain or gzipped.

    Parameters
    ----------
    path : Path
        The file.
    layout : str
        ``NTB`` or ``NBT``.
    where : str
        The option and its value, for messages.
    masked : bool
        Whether records may differ in length.
    allowed : int
        Bytes that may be held of the file.

    Returns
    -------
    Rows
        One-hot in the order A, C, G, T, as int8; with ``lengths`` where they may differ. Records
        have the names that their first line begins with.

    Raises
    ------
    GeedError
        If the layout is another one.
        If the file cannot be read, or holds no records, or one without bases.
        If it takes more memory than is allowed.
        If a letter stands for no base.

    Notes
    -----
    Choice: N, other letters for several bases, and gaps are zeros in all four places; small letters
    are read as capitals, U as T.
    """
    letters = parse_layout(layout).letters[1:]
    if sorted(letters) != ["B", "T"]:
        raise GeedError(
            f"{where}: FASTA is read as one-hot bases, for inputs NTB or NBT; this one is {layout}"
        )
    names, sequences = _records(_content(path, where, allowed), where)
    lengths = np.array([len(one) for one in sequences])
    table = np.zeros((256, 4), np.int8)
    for place, bases in enumerate((b"A", b"C", b"G", b"TU")):
        table[list(bases), place] = 1

    def read(index: Any) -> NDArray[Any]:
        hot = table[np.frombuffer(sequences[index], np.uint8)]
        return hot if letters == "TB" else np.ascontiguousarray(hot.T)

    return Rows(
        (len(names), *read(0).shape),
        np.dtype(np.int8),
        read,
        lengths=lengths if masked else None,
        names=names,
        kind="sequences",
    )


def _content(path: Path, where: str, allowed: int) -> bytes:
    cure = "give fewer sequences, or raise --memory"
    try:
        content = read_held(path, where, allowed // 4, unpack=True, cure=cure)
        objects = _RECORD * content.count(b">") + _LINE * content.count(b"\n")
        check_held(where, 4 * len(content) + objects, allowed, cure)
        return bytes(content)
    except (OSError, EOFError, zlib.error) as error:
        raise GeedError(f"{where}: cannot be read ({reason_of(error)}); fetch it again") from None


def _records(content: bytes, where: str) -> tuple[tuple[str, ...], list[bytes]]:
    """Return names and sequences, in capitals."""
    # What stands before the first record: nothing, or remarks as old programs wrote them.
    ahead, *records = re.split(rb"^>", content, flags=re.M)
    if not records or re.sub(rb"^;.*$", b"", ahead, flags=re.M).strip():
        raise GeedError(f"{where}: not a FASTA file: records begin with '>' and a name")
    names, sequences = [], []
    for number, record in enumerate(records, 1):
        head, _, body = record.partition(b"\n")
        name = (head.decode("utf-8", "replace").split() or [f"record {number}"])[0]
        bases = b"".join(body.split()).upper()
        if not bases:
            raise GeedError(f"{where}: {name} has no bases; was the file cut off?")
        if odd := bases.translate(None, _ONE + _SEVERAL):
            raise GeedError(
                f"{where}: {name} has the letter {chr(odd[0])!r}, which is not a DNA base; give DNA"
            )
        names.append(name)
        sequences.append(bases)
    return tuple(names), sequences
