"""A disk whose power is cut: what may be on it, by what was written, and flushed, until then.

Data of a file are safe once it was flushed, names in a folder once the folder was. Of all that is
not, any part may be there and any may not, in any order.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from gauntlet_running import hold, last_line

_CALLS = (
    "openat,creat,write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat"
)
_CALLS += ",ftruncate,truncate,lseek,mmap"
_LINE = re.compile(r"(\d+\.\d+) (\w+)\((.*)\)\s+= (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FILE = re.compile(r"^\d+<([^>]*)>")


@dataclass(frozen=True)
class Event:
    """Something that was done to a folder.

    ``what`` is ``create``, ``write``, ``flush``, ``rename``, ``remove`` or ``flush names``.
    """

    what: str
    name: str = ""
    other: str = ""
    data: bytes = field(default=b"", repr=False)


def recorded(
    command: Sequence[str], env: Mapping[str, str], folder: Path, trace: Path
) -> list[Event]:
    """Run a command; return what it did to the files of a folder, in order."""
    trace.mkdir()
    strace = ["strace", "-ff", "-ttt", "-y", "-xx", "-s", str(1 << 26), "-e", f"trace={_CALLS}"]
    words = [*strace, "-o", str(trace / "t"), *command]
    run = subprocess.run(words, env=dict(env), capture_output=True, text=True)
    hold(not run.returncode, last_line(run.stderr))
    calls = []
    for path in trace.iterdir():
        for line in path.read_text(errors="replace").splitlines():
            if (call := _LINE.match(line)) and int(call[4]) >= 0:
                calls.append((float(call[1]), call[2], call[3], int(call[4])))
    events = []
    for _, name, arguments, result in sorted(calls, key=lambda call: call[0]):
        events += _events(name, arguments, result, folder)
    return events


def _events(call: str, arguments: str, result: int, folder: Path) -> list[Event]:
    texts = [bytes.fromhex(t.replace("\\x", "")) for t in _TEXT.findall(arguments)]
    opened = _FILE.match(arguments)
    at = Path(_plain(opened[1])) if opened else None
    if call in ("openat", "creat", "rename", "renameat", "renameat2", "unlink", "unlinkat"):
        paths = [Path(text.decode()) for text in texts]
        if not any(p.parent == folder for p in paths) or paths[0].name == ".lock":
            return []
        if call == "openat" and "O_CREAT" not in arguments:
            return []
        if call.startswith("rename"):
            hold(len({p.parent for p in paths}) == 1, f"{paths} is renamed to another folder")
            return [Event("rename", *(p.name for p in paths))]
        return [Event("remove" if call.startswith("unlink") else "create", paths[0].name)]
    if at == folder and call == "fsync":
        return [Event("flush names")]
    if at is None or at.parent != folder or at.name == ".lock":
        return []
    if call in ("fsync", "fdatasync"):
        return [Event("flush", at.name)]
    if call == "write":
        hold(len(texts[0]) == result, f"{at.name}: {result} of {len(texts[0])} bytes were written")
        return [Event("write", at.name, data=texts[0])]
    # Reading seeks and maps; this model knows only files that are written from end to end.
    hold(call in ("lseek", "mmap"), f"{at.name}: {call} is not known to the model of a disk")
    return []


def _plain(name: str) -> str:
    return re.sub(r"\\x([0-9a-f]{2})", lambda code: chr(int(code[1], 16)), name)


#: Files of a folder by name.
State = dict[str, bytes]


def states(events: Sequence[Event], drawn: int) -> list[State]:
    """States after every event, with all that is not flushed, without it, and with parts of it."""
    found: dict[tuple[tuple[str, int], ...], State] = {}
    chance = Random(0)

    def note(stop: int, keep: float) -> None:
        state = _left(events[:stop], keep, chance)
        found.setdefault(tuple(sorted((k, hash(v)) for k, v in state.items())), state)

    for stop in range(len(events) + 1):
        note(stop, 0.0)
        note(stop, 1.0)
    for _ in range(drawn):
        note(chance.randint(0, len(events)), chance.choice((0.3, 0.5, 0.8)))
    return list(found.values())


def _left(events: Sequence[Event], keep: float, chance: Random) -> State:
    """What is on the disk if the power goes after some events; what is not safe is kept or not."""
    files: list[list[bytes]] = []
    safe: list[int] = []
    now: dict[str, int] = {}
    pending: list[tuple[str, str, int]] = []
    names: dict[str, int] = {}

    def settle(changes: Sequence[tuple[str, str, int]]) -> None:
        for gone, made, number in changes:
            names.pop(gone, None)
            if made:
                names[made] = number

    for event in events:
        if event.what == "create":
            files.append([])
            safe.append(0)
            now[event.name] = len(files) - 1
            pending.append(("", event.name, now[event.name]))
        elif event.what == "write":
            files[now[event.name]].append(event.data)
        elif event.what == "flush":
            safe[now[event.name]] = len(files[now[event.name]])
        elif event.what == "rename":
            now[event.other] = now.pop(event.name)
            pending.append((event.name, event.other, now[event.other]))
        elif event.what == "remove":
            pending.append((event.name, "", now.pop(event.name)))
        else:
            settle(pending)
            pending = []
    settle([change for change in pending if chance.random() < keep])
    return {name: _content(files[n], safe[n], keep, chance) for name, n in names.items()}


def _content(writes: Sequence[bytes], safe: int, keep: float, chance: Random) -> bytes:
    """A file of which some writes are safe; others are there, are zeros, or beyond the end."""
    kept = [i < safe or chance.random() < keep for i in range(len(writes))]
    last = max((i for i, there in enumerate(kept) if there), default=-1)
    parts = zip(writes[: last + 1], kept, strict=False)
    return b"".join(data if there else bytes(len(data)) for data, there in parts)


def put(state: State, folder: Path) -> None:
    """Make a folder of such files."""
    folder.mkdir()
    for name, data in state.items():
        (folder / name).write_bytes(data)
