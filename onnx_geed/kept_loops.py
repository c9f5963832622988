"""Compiled loops kept on the disk as machine code alone, which needs no compiler to be run.

To import numba takes longer than many a run of a small network, and its compiler is larger than
all of our own memory; both are for compiling. So the machine code of each loop that Python calls is
written beside what numba keeps, in a file that says in its name of which loop, source, compiler,
processor and types it is, and begins with a seal of its name and content. Where there is no such
file, or anything about it is not as expected, numba is asked.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from onnx_geed.object_code import Image, image_of, put_into_memory

__all__ = [
    "Kinds",
    "digest_of",
    "held_by",
    "kinds_of",
    "read_loop",
    "settings_of",
    "text_of",
    "write_loop",
]

#: What tells one set of arguments from others that need other machine code.
Kinds = tuple[Any, ...]

# Of an array's flags: contiguous in C's order, in Fortran's, aligned or writable.
_IN_C, _IN_FORTRAN, _OTHER_FLAGS = 0x1, 0x2, 0x100 | 0x400


_SCALARS = {int: ctypes.c_void_p, float: ctypes.c_double, bool: ctypes.c_void_p}


_RESULTS = {
    "none": None,
    "float64": ctypes.c_double,
    "int64": ctypes.c_int64,
    "uint64": ctypes.c_uint64,
}


_SEAL = hashlib.sha256().digest_size


# What frees an array that a loop has made. One that makes any is not kept, since what makes them is
# neither in its object file nor in the C library.
_NEVER = ("NRT_MemInfo_call_dtor",)


# The one setting of numba's with which machine code is the same.
_FOLDER = "NUMBA_CACHE_DIR"


def kinds_of(arguments: Iterable[Any]) -> Kinds | None:
    """Return the kinds of a loop's arguments; None where one is of a kind that is not kept."""
    kinds: list[Any] = []
    for argument in arguments:
        kind = type(argument)
        if kind is np.ndarray:
            flags = argument.flags.num
            layout = flags & _IN_C or flags & _IN_FORTRAN
            kinds += (argument.dtype, argument.ndim, layout | flags & _OTHER_FLAGS)
        elif kind in _SCALARS and (kind is not int or -(1 << 63) <= argument < 1 << 63):
            kinds.append(kind)
        else:
            return None
    return tuple(kinds)


def read_loop(
    function: Callable[..., Any], arguments: tuple[Any, ...]
) -> Callable[..., Any] | None:
    """Return a loop, to be called with arguments such as these, from the disk.

    Parameters
    ----------
    function : callable
        The loop in Python.
    arguments : tuple
        Arguments of a call.

    Returns
    -------
    callable or None
        It lets go of the interpreter's lock. None where the disk does not have it, or it cannot be
        run as it is.
    """
    name = _name_of(function, arguments)
    for folder in _folders(function) if name else ():
        with contextlib.suppress(OSError, ValueError, KeyError):
            content = Path(folder, str(name)).read_bytes()
            if _seal_of(str(name), content[_SEAL:]) == content[:_SEAL]:
                return _called(*_read(content[_SEAL:]), arguments)
    return None


def write_loop(dispatcher: Any, arguments: tuple[Any, ...]) -> None:
    """Keep a loop that numba has compiled, or has read from the disk, for arguments such as these.

    Where that cannot be done, numba is asked again in the next process.

    Parameters
    ----------
    dispatcher : numba.core.dispatcher.Dispatcher
        The loop; its object files are those of :mod:`onnx_geed.machine_code`.
    arguments : tuple
        Arguments that it was compiled for.
    """
    files = getattr(dispatcher._cache, "_cache_file", None)
    if files is None:
        return  # numba found no folder that it can write to
    # Whatever another version of numba has otherwise, the loop itself was compiled.
    with contextlib.suppress(Exception):
        types, function = tuple(map(dispatcher.typeof_pyval, arguments)), dispatcher.py_func
        written, folder = files.objects.get(types), dispatcher._cache.cache_path
        name = _name_of(function, arguments)
        if written and name and os.path.abspath(folder) in _folders(function):
            content = _content(dispatcher.overloads[types], written, arguments)
            if content:
                with files._open_for_write(os.path.join(folder, name)) as file:
                    file.write(_seal_of(name, content) + content)
                _remove_outdated(folder, name)
    files.objects.clear()


def _content(compiled: Any, written: bytes, arguments: tuple[Any, ...]) -> bytes | None:
    """Return what the file of a compiled loop holds; None of one that only numba can run."""
    described, result = compiled.fndesc, str(compiled.signature.return_type)
    passed = compiled.target_context.get_arg_packer(described.argtypes).argument_types
    if result not in _RESULTS or [str(kind) for kind in passed] != _passed(arguments):
        return None
    wrappers = described.llvm_cpython_wrapper_name, described.llvm_cfunc_wrapper_name
    image = image_of(written, described.mangled_name, wrappers, _NEVER)
    return None if image is None else _written(image, result)


def _written(image: Image, result: str) -> bytes:
    described = {
        "result": result,
        "begin": image.begin,
        "own": image.own,
        "foreign": image.foreign,
    }
    return json.dumps(described).encode() + b"\n" + image.code


def _seal_of(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + content).digest()


def _read(content: bytes) -> tuple[Image, str]:
    described, _, code = content.partition(b"\n")
    of = json.loads(described)
    return Image(code, of["begin"], of["own"], of["foreign"]), of["result"]


def _called(image: Image, result: str, arguments: tuple[Any, ...]) -> Callable[..., Any] | None:
    """Return a loop as Python calls it.

    numba's code takes where to put its result, where to put what goes wrong, and the arguments: of
    an array its owners (which are ours), how many items of what size there are and where, and its
    shape and strides.
    """
    address = put_into_memory(image)
    if address is None:
        return None
    # Whole numbers are passed as addresses are, which takes ctypes half the time.
    kinds: list[Any] = [ctypes.c_void_p, ctypes.c_void_p]
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            kinds += [ctypes.c_void_p] * (5 + 2 * argument.ndim)
        else:
            kinds.append(_SCALARS[type(argument)])
    loop = ctypes.CFUNCTYPE(ctypes.c_int32, *kinds)(address)
    # One place for all threads: what goes wrong is not looked at, and nothing is always zero.
    kind, wrong, nothing = _RESULTS[result], ctypes.c_void_p(), ctypes.c_void_p()
    of_wrong, of_nothing = ctypes.byref(wrong), ctypes.byref(nothing)

    def call(*given: Any) -> Any:
        found = None if kind is None else kind()
        passed: list[Any] = [of_nothing if found is None else ctypes.byref(found), of_wrong]
        for argument in given:
            if type(argument) is np.ndarray:
                # Of an array of records, its interface would describe each field.
                start = argument.ctypes.data
                passed += (None, None, argument.size, argument.itemsize, start)
                passed += argument.shape
                passed += argument.strides
            else:
                passed.append(argument)
        if loop(*passed) not in _FINE:
            raise SystemError("a compiled loop failed; please report it")
        return None if found is None else found.value

    return call


# What numba's code returns: done, and done with nothing to return.
_FINE = (0, -2)


def _passed(arguments: tuple[Any, ...]) -> list[str]:
    """Return the compiler's names of what :func:`_called` passes."""
    names: list[str] = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            item = _ITEMS.get(argument.dtype, f"[{argument.itemsize} x i8]")
            numbers = ["i64"] * (2 * argument.ndim)
            names += ["i8*", "i8*", "i64", "i64", f"{item}*", *numbers]
        else:
            names.append({int: "i64", float: "double", bool: "i8"}[type(argument)])
    return names


_ITEMS: dict[np.dtype[Any], str] = {
    np.dtype(np.float32): "float",
    np.dtype(np.float64): "double",
    **{np.dtype(f"{sign}{size // 8}"): f"i{size}" for sign in "iu" for size in (8, 16, 32, 64)},
    np.dtype(bool): "i8",
}


def _name_of(function: Callable[..., Any], arguments: tuple[Any, ...]) -> str | None:
    """Return the name of a loop's file; None where none may be read."""
    kinds, here = kinds_of(arguments), _here()
    if not kinds or not here or settings_of(sys.modules.get("numba.core.config")) != _SETTINGS:
        return None
    text = digest_of(function.__code__.co_filename, function.__module__)
    held = held_by(function)
    if text is None or held is None:
        return None
    told = [getattr(k, "__name__", k) if isinstance(k, type) else repr(k) for k in kinds]
    rest = hashlib.sha256(repr((held, here, told)).encode()).hexdigest()
    module = function.__module__.rpartition(".")[2]
    version = f"py{sys.version_info.major}{sys.version_info.minor}"
    return f"{module}.{function.__qualname__}.{version}-{text[:16]}-{rest[:16]}.loop"


def held_by(function: Callable[..., Any]) -> str | None:
    """Return a digest of a loop as this process has it, with the functions that it calls.

    A text on the disk may be another one than was loaded: an update was installed meanwhile.

    Parameters
    ----------
    function : callable
        The loop in Python.

    Returns
    -------
    str or None
        None where it reads anything but functions, numbers, texts, types of arrays, tuples of
        these, and a few modules.
    """
    try:
        told = _told(function, {})
    except (_UntoldError, ValueError):  # the latter of a variable around it that has no value yet
        return None
    return hashlib.sha256(told.encode()).hexdigest()


class _UntoldError(Exception):
    """What a loop reads cannot be told."""


def _told(value: Any, seen: dict[int, str]) -> str:
    """Return a text that is another one where a value is another that compiled code may hold."""
    kind = type(value)
    if not isinstance(value, FunctionType) and hasattr(value, "__wrapped__"):
        value = value.__wrapped__  # a loop, or numba's of it
        if not hasattr(value, "fastmath"):
            raise _UntoldError  # one that is compiled in some other way
    if isinstance(value, FunctionType):
        if id(value) not in seen:
            seen[id(value)] = value.__qualname__  # one that calls itself
            seen[id(value)] = _told_of_function(value, seen)
        return seen[id(value)]
    if isinstance(value, CodeType):
        counts = value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount
        held = value.co_code, value.co_names, value.co_varnames, value.co_consts
        return f"[{value.co_flags} {counts} {' '.join(_told(part, seen) for part in held)}]"
    if kind in (tuple, list):
        return f"{kind.__name__}({' '.join(_told(part, seen) for part in value)})"
    if kind in (dict, frozenset):
        entries = value.items() if kind is dict else value
        return f"{kind.__name__}({' '.join(sorted(_told(entry, seen) for entry in entries))})"
    if isinstance(value, np.dtype):
        return repr(value)
    if isinstance(value, np.generic):
        return f"{value.dtype!r}:{value.tobytes().hex()}"
    if isinstance(value, ModuleType) and value.__name__ in _MODULES:
        return value.__name__
    if value is None or kind in (int, float, bool, str, bytes):
        return f"{kind.__name__}:{value!r}"
    raise _UntoldError


def _told_of_function(function: FunctionType, seen: dict[int, str]) -> str:
    names = function.__globals__
    read = {name: names[name] for name in sorted(_names_in(function.__code__)) if name in names}
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    flags = getattr(function, "fastmath", None)
    defaults = function.__defaults__, function.__kwdefaults__
    parts = [function.__code__, *defaults, flags, *cells, *read, *read.values()]
    return f"({function.__module__} {' '.join(_told(part, seen) for part in parts)})"


def _names_in(code: CodeType) -> set[str]:
    """Return the names that code reads, and the code within it."""
    inner = (part for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


# Modules whose functions are the same wherever their versions are.
_MODULES = ("ctypes", "math", "numpy")


def settings_of(config: ModuleType | None) -> dict[str, Any]:
    """Return the settings of numba's that change machine code, but not numba's own name for it.

    Parameters
    ----------
    config : module, optional
        numba's, where it is loaded.
    """
    return {name: getattr(config, name, plain) for name, plain in _SETTINGS.items()}


_SETTINGS = {
    **{"DISABLE_JIT": 0, "OPT": 3, "BOUNDSCHECK": None, "DEBUGINFO_DEFAULT": 0},
    **{"CPU_NAME": None, "CPU_FEATURES": None, "ENABLE_AVX": 1},
    **{"LOOP_VECTORIZE": 1, "SLP_VECTORIZE": 0},
}


def _remove_outdated(folder: str, name: str) -> None:
    """Remove machine code of a former text."""
    loop, source, _ = name.split("-")
    for other in os.listdir(folder):
        of_loop = other.startswith(f"{loop}-") and other.endswith(".loop")
        if of_loop and not other.startswith(f"{loop}-{source}-"):
            Path(folder, other).unlink(missing_ok=True)


@functools.cache
def _here() -> tuple[str, ...] | None:
    """Return what machine code depends on beside its source; None where none may be read."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    if any(name.startswith("NUMBA_") and name != _FOLDER for name in os.environ):
        return None  # such as another processor than this one
    if Path(".numba_config.yaml").exists():
        return None
    try:
        compilers = [_version_file(name).read_text() for name in ("numba", "llvmlite")]
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            processor = file.read(1 << 16).split("\n\n")[0]
    except OSError:
        return None
    told = "vendor_id|cpu family|model|model name|stepping|flags"
    lines = [line for line in processor.splitlines() if re.match(rf"({told})\t*:", line)]
    return (sys.version, *compilers, *lines)


def _version_file(package: str) -> Path:
    for folder in sys.path:
        if (file := Path(folder or ".", package, "_version.py")).is_file():
            return file
    raise FileNotFoundError(package)


def _folders(function: Callable[..., Any]) -> list[str]:
    """Return where numba may keep a loop: the first folder that it can write to is the last here.

    Those before it may hold what somebody else compiled who can write there, as an installer can.
    """
    file = os.path.abspath(function.__code__.co_filename)
    home = os.path.dirname(file)
    of_source = f"{os.path.basename(home)}_{hashlib.sha1(home.encode()).hexdigest()}"
    user = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
    asked = os.environ.get(_FOLDER)
    tried = [
        *([os.path.join(asked, of_source)] if asked else []),
        os.path.join(home, "__pycache__"),
        os.path.join(user, "numba", of_source),
    ]
    folders = [os.path.abspath(folder) for folder in tried]
    first = next((n for n, folder in enumerate(folders) if _is_writable(folder)), len(folders))
    return folders[: first + 1]


def _is_writable(folder: str) -> bool:
    """Whether a folder, or the one that it would be made in, can be written to."""
    while not os.path.lexists(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK)


def text_of(file: str, module: str) -> str | None:
    """Return a digest of a module's text, and of those that it takes loops and constants from.

    They become part of its own machine code. Looked for are modules of the same package that it
    imports names from, those that :func:`onnx_geed.jit.instructed_by` names, and what tells the
    compiler how to make it.

    Parameters
    ----------
    file : str
        Where the module's text is.
    module : str
        Its name.

    Returns
    -------
    str or None
        None where its text cannot be read.
    """
    package, texts, to_read = module.rpartition(".")[0], dict[str, bytes](), [Path(file).name]
    within = re.escape(package)
    taken = rf'^ *from {within}\.(\w+) import |^instructed_by\("{within}\.(\w+)"\)'.encode()
    try:
        while to_read:
            name = to_read.pop()
            if name not in texts:
                texts[name] = Path(file).with_name(name).read_bytes()
                found = re.findall(taken, texts[name], re.M)
                to_read += [f"{(a or b).decode()}.py" for a, b in found]
        for name in ("jit", "kept_loops", "object_code"):
            texts[f"/{name}"] = Path(__file__).with_name(f"{name}.py").read_bytes()
    except OSError:  # in a zip file, whose time is its own
        return None
    whole = hashlib.sha256()
    for name in sorted(texts):
        whole.update(hashlib.sha256(texts[name]).digest())
    return whole.hexdigest()


@functools.cache
def digest_of(file: str, module: str) -> str | None:
    """Return the digest of :func:`text_of` as it was when it was first asked for."""
    return text_of(file, module)
