"""Two doors that Linux lets any process close behind itself: files (Landlock), network (seccomp).

Both are spoken to by ctypes. The packages that wrap them are a pre-release (``landlock``), or have
had no release since 2021 and need a C library that slim images lack (``pyseccomp``); what they
would do here are three system calls whose numbers and structures the kernel keeps for good.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import stat
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["adopt", "close_network", "close_writes", "die_with_parent"]

_NO_NEW_PRIVILEGES, _DIE_WITH_PARENT, _ADOPT = 38, 1, 36


# linux/landlock.h: numbers of the calls, the same on all processors; rights by version of the ABI.
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_WRITE, _TRUNCATE, _REFER = 1 << 1, 1 << 14, 1 << 13
_REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
_SCOPE = 3  # abstract sockets and signals of processes outside


# linux/seccomp.h, linux/bpf_common.h, linux/audit.h.
_SECCOMP, _SET_FILTER = {"x86_64": 317, "aarch64": 277}, 1
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_EPERM, _EACCES, _ENOSYS = 1, 13, 38


# Calls by number: socket; io_uring_setup, which opens sockets unseen; modes and owners of files,
# which Landlock leaves open; ioctl, whose two requests type on the terminal.
_REFUSED = {
    "x86_64": {41: _EACCES, 425: _ENOSYS}
    | dict.fromkeys((90, 91, 92, 93, 94, 260, 268, 452), _EPERM),
    "aarch64": {198: _EACCES, 425: _ENOSYS} | dict.fromkeys((52, 53, 54, 55, 452), _EPERM),
}
# Calls that change another process, by the argument that names it, where 0 is the caller itself:
# prlimit64 and setpriority.
_OF_OTHERS = {"x86_64": {302: 0, 141: 1}, "aarch64": {261: 0, 140: 1}}
_IOCTL, _TYPING = {"x86_64": 16, "aarch64": 29}, (0x5412, 0x541C)


# Devices that programs write to by right: of CUDA too.
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty", *("/dev/nvidia*", "/dev/dri/*"))


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    answer = int(libc.syscall(ctypes.c_long(number), *arguments))
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return answer


def _control(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_ulong(n) for n in (value, 0, 0, 0)]
    if libc.prctl(ctypes.c_int(option), *words) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def die_with_parent(number: int) -> None:
    """Have this process sent a signal when the one that made it ends, where the system can."""
    if sys.platform == "linux":
        _control(_DIE_WITH_PARENT, number)


def adopt() -> None:
    """Have processes whose parent ends become this one's children, where the system can."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            _control(_ADOPT, 1)


def close_writes(places: Sequence[str | Path]) -> bool:
    """Let this process, and all that it starts, write to some places only, for good.

    Parameters
    ----------
    places : sequence of str or Path
        Folders, with all that is in them, and files, pipes and devices that are there.

    Returns
    -------
    bool
        Whether it is so: Linux 5.13 and later can, unless built or started without.
    """
    if sys.platform != "linux":
        return False
    try:
        version = _call(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    except OSError:
        return False
    rights = _WRITE | _REMOVE_AND_MAKE
    rights |= (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    words = [rights] + ([0, _SCOPE] if version >= 6 else [])
    layout = struct.pack(f"={len(words)}Q", *words)
    try:
        rules = _call(_CREATE, layout, ctypes.c_size_t(len(layout)), ctypes.c_uint32(0))
        devices = [p for d in _DEVICES for p in Path("/").glob(d[1:])]
        for place in (*places, *devices):
            _open_again(rules, place, rights)
        _control(_NO_NEW_PRIVILEGES, 1)
        _call(_RESTRICT, ctypes.c_int(rules), ctypes.c_uint32(0))
        os.close(rules)
    except OSError:
        return False
    return True


def _open_again(rules: int, place: str | Path, rights: int) -> None:
    """Add a place that may be written to."""
    try:
        handle = os.open(place, getattr(os, "O_PATH", 0) | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return
    if not stat.S_ISDIR(os.fstat(handle).st_mode):
        rights &= _WRITE | _TRUNCATE
    rule = struct.pack("=Qi", rights, handle)
    _call(_ADD, ctypes.c_int(rules), ctypes.c_int(1), rule, ctypes.c_uint32(0))
    os.close(handle)


def close_network() -> bool:
    """Refuse this process, and all that it starts, every socket, for good.

    Returns
    -------
    bool
        Whether it is so: Linux on x86-64 and ARM64 can, unless built or started without.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _MACHINES or sys.maxsize < 1 << 32:
        return False
    program = _program(machine)
    steps = b"".join(struct.pack("=HBBI", *step) for step in program)
    held = ctypes.create_string_buffer(steps)
    # struct sock_fprog: a count, and the address of the steps.
    layout = struct.pack("@HP", len(program), ctypes.addressof(held))
    try:
        _control(_NO_NEW_PRIVILEGES, 1)
        _call(_SECCOMP[machine], ctypes.c_uint(_SET_FILTER), ctypes.c_uint(0), layout)
    except OSError:
        return False
    return True


def _program(machine: str) -> list[tuple[int, int, int, int]]:
    """Return the filter's steps: code, steps to skip if so, if not, and a number."""
    program = [
        (_LOAD, 0, 0, 4),  # the processor that the number is meant for
        (_EQUAL, 1, 0, _MACHINES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),  # the number of the call
        (_AT_LEAST, 0, 1, 0x40000000),  # x86-64's second set of numbers
        (_RETURN, 0, 0, _KILL),
    ]
    for number, code in _REFUSED[machine].items():
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE | code)]
    for number, argument in _OF_OTHERS[machine].items():
        program += [(_EQUAL, 0, 4, number), (_LOAD, 0, 0, 16 + 8 * argument)]
        program += [(_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE | _EPERM)]
    program += [(_EQUAL, 1, 0, _IOCTL[machine]), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, 24)]
    for request in _TYPING:
        program += [(_EQUAL, 0, 1, request), (_RETURN, 0, 0, _REFUSE | _EPERM)]
    return [*program, (_RETURN, 0, 0, _ALLOW)]
