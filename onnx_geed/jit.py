"""How loops are compiled and kept on disk, and what the user is told of it.

Compiling takes seconds, once: numba keeps the machine code in ``NUMBA_CACHE_DIR``, else beside the
source, else in the user's own cache folder. Where none of these can be written it would refuse to
compile at all; here it compiles in every process, and says so. A loop whose machine code
:mod:`onnx_geed.kept_loops` finds is run without numba. Messages go to the logger ``onnx_geed``,
which the command line prints on stderr.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.abc
import importlib.util
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_geed.confinement import confined
from onnx_geed.errors import GeedError
from onnx_geed.whole import whole

if TYPE_CHECKING:
    from onnx_geed.kept_loops import Kinds

__all__ = ["LOGGER", "compiled", "instructed_by"]

LOGGER = logging.getLogger("onnx_geed")


# The modules whose compiling is announced.
_HOME = __name__.rpartition(".")[0] + "."


# Kernels are made by one thread at a time; one that calls another makes it first.
_MAKING = threading.RLock()


# Modules that tell the compiler of instructions; and digests of their texts as they were loaded.
_INSTRUCTING: list[str] = []


_LOADED: dict[str, str | None] = {}


class _Kernel:
    """A loop that is compiled, or taken from the disk, when it is first called.

    numba is only imported where the disk does not have it.
    """

    def __init__(self, function: Callable[..., Any], fastmath: set[str]) -> None:
        # Who asks for the messages here alone needs no NumPy.
        from onnx_geed.kept_loops import digest_of, kinds_of, read_loop

        # Before there can be another text than this one.
        digest_of(function.__code__.co_filename, function.__module__)
        functools.update_wrapper(self, function)
        function.fastmath = sorted(fastmath)  # type: ignore[attr-defined]  # of its machine code
        self._function, self._fastmath = function, fastmath
        self._dispatcher: Callable[..., Any] | None = None
        self._kinds_of, self._read = kinds_of, read_loop
        self._kept: dict[Kinds | None, Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Run the loop; the interpreter's lock is released meanwhile."""
        if self._dispatcher is not None:
            return self._dispatcher(*arguments)
        kinds = self._kinds_of(arguments)
        return (self._kept.get(kinds) or self._taken(kinds, arguments))(*arguments)

    def _taken(self, kinds: Kinds | None, arguments: tuple[Any, ...]) -> Callable[..., Any]:
        with whole(), _MAKING:
            loop = None
            if self._dispatcher is None and kinds is not None:
                loop = self._kept.get(kinds) or self._read(self._function, arguments)
            if loop is None:
                return self._made()
            self._kept[kinds] = loop
        return loop

    def _made(self) -> Callable[..., Any]:
        with whole(), _MAKING:
            if self._dispatcher is None:
                names = self._function.__globals__
                # Compiled code calls compiled code, and knows it by the names of its module.
                for name in self._function.__code__.co_names:
                    if isinstance(inner := names.get(name), _Kernel):
                        names[name] = inner._made()
                self._dispatcher = _dispatcher_of(self._function, self._fastmath)
        return self._dispatcher


def instructed_by(module: str) -> None:
    """Have a module tell numba of vector instructions, before anything is compiled.

    Parameters
    ----------
    module : str
        Name of a module that imports numba.
    """
    _INSTRUCTING.append(module)


def compiled(*fastmath: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator: compile on the first call, or take machine code from the disk.

    Parameters
    ----------
    *fastmath : str
        LLVM's flags for arithmetic that may be done in another way than it is written.

    Returns
    -------
    callable
        The decorator; what it returns releases the interpreter's lock.
    """
    return lambda function: _Kernel(function, set(fastmath))


def _dispatcher_of(function: Callable[..., Any], fastmath: set[str]) -> Callable[..., Any]:
    """Return numba's dispatcher of a loop."""
    numba = _numba()
    from onnx_geed.machine_code import named_by_content

    _announce_compiling()
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath, "error_model": "numpy"}
    if getattr(numba.config, "DISABLE_JIT", 0):
        return function
    if not _instructed():
        return _compiled_whole(numba.njit(**options)(function))
    with _read_only_cache() if confined() else contextlib.nullcontext():
        try:
            kernel = named_by_content(numba.njit(cache=True, **options)(function))
        except RuntimeError:  # no folder is writable
            kernel = numba.njit(**options)(function)
        else:
            _take_from_disk(kernel)
    if confined():
        kernel._cache.save_overload = lambda signature, data: None
    return _compiled_whole(kernel)


def _instructed() -> bool:
    """Load what tells the compiler of instructions; say whether it is what the texts are now.

    Where an update was installed meanwhile, what is compiled here is for this process alone.
    """
    from onnx_geed.kept_loops import text_of

    def text(module: str) -> str | None:
        return text_of(str(importlib.import_module(module).__file__), module)

    for module in _INSTRUCTING:  # one may name others while it is loaded
        _LOADED.setdefault(module, text(module))
    return all(digest == text(module) for module, digest in _LOADED.items())


@contextlib.contextmanager
def _read_only_cache() -> Iterator[None]:
    """Let numba look for machine code where this process may read and not write.

    What a confined process wrote there would be run by others. numba tries each folder by writing
    to it; whether the user could is the same question.
    """
    from numba.core import caching

    locator: Any = caching._CacheLocator
    asked = locator.ensure_cache_path

    def ensure(self: Any) -> None:
        path = self.get_cache_path()
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(path)

    locator.ensure_cache_path = ensure
    try:
        yield
    finally:
        locator.ensure_cache_path = asked


def _compiled_whole(kernel: Any) -> Callable[..., Any]:
    """Have a loop compiled, or read from the disk, from beginning to end, once it is called."""
    from onnx_geed.kept_loops import write_loop

    compile_for = kernel._compile_for_args

    def compile_whole(*arguments: Any, **named: Any) -> Any:
        with whole():
            found = compile_for(*arguments, **named)
            if not confined():
                write_loop(kernel, arguments)
            return found

    kernel._compile_for_args = compile_whole  # which numba looks up for every new set of types
    looped: Callable[..., Any] = kernel
    return looped


def _numba() -> Any:
    """Return numba.

    Raises
    ------
    GeedError
        If it does not load, as with settings of its own that it does not take.
    """
    settings = [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith("NUMBA_")]
    try:
        with _warnings_raised() if settings else contextlib.nullcontext(), _without(*_unneeded()):
            import numba
        _read_settings_later(numba.config)
    except Exception as error:
        reason, _, _ = str(error).partition("\n")
        raise GeedError(
            f"numba cannot be loaded ({reason.rstrip('.')}); "
            + (f"look at {', '.join(settings)}" if settings else "install it again")
        ) from None
    return numba


def _unneeded() -> tuple[str, ...]:
    """Return what numba loads beside itself for nothing: a version to look at, and a reader."""
    settings = Path(".numba_config.yaml")  # of this folder, which numba reads its settings from
    return ("scipy",) if settings.exists() else ("scipy", "yaml")


def _read_settings_later(config: Any) -> None:
    """Load what reads numba's settings where a folder has some: this process may go to another."""
    if not getattr(config, "_HAVE_YAML", True) and importlib.util.find_spec("yaml") is not None:
        config._HAVE_YAML, config.yaml = True, _Yaml()


class _Yaml:
    """PyYAML, which is loaded when it is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("yaml"), name)


@contextlib.contextmanager
def _warnings_raised() -> Iterator[None]:
    """Have numba refuse a setting that it cannot read, where it prints a traceback and goes on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Environment variable", RuntimeWarning)
        yield


def _take_from_disk(kernel: Any) -> None:
    """Let a loop's machine code be read from the disk without what compiles it.

    numba loads all that it can compile before it looks at the disk, which takes three times as
    long as the rest of it; here it does so where nothing is found there. It also fails for good on
    a file that is cut, or holds anything else: such a loop is compiled again. Machine code is not
    looked into: who may write to the cache may run code here anyway.
    """
    cache = getattr(kernel, "_cache", None)
    if cache is None:  # where nothing is compiled
        return
    save = cache.save_overload

    def load_overload(signature: Any, target: Any) -> Any:
        from numba.core.runtime.nrt import rtsys

        try:
            rtsys.initialize(target)
            found = cache._load_overload(signature, target)
        except Exception:  # a pickle that is none raises nearly anything
            found = None
            with contextlib.suppress(Exception):
                cache.flush()
        if found is None:
            # It takes as long as the rest of numba, and no loop here calls it. Whoever compiles
            # others has it nevertheless: numba looks for it again where it is called.
            with _without("scipy.linalg"):
                target.refresh()
        return found

    def save_overload(signature: Any, data: Any) -> None:
        with contextlib.suppress(Exception):
            save(signature, data)

    cache.load_overload, cache.save_overload = load_overload, save_overload
    # Looks for extensions among all that is installed; so does the refresh above.
    kernel._compilation_chain_init_hook = lambda: None


@contextlib.contextmanager
def _without(*modules: str) -> Iterator[None]:
    """Let this thread import numba as if some modules that it can do without were not installed."""
    finder = _Missing(frozenset(modules), threading.get_ident())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Missing(importlib.abc.MetaPathFinder):
    """Finds no such modules for one thread."""

    def __init__(self, modules: frozenset[str], thread: int) -> None:
        self._modules, self._thread = modules, thread

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        """Refuse these modules; leave others to other finders."""
        if fullname in self._modules and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"{fullname} is not needed", name=fullname)


def _message(cache: str | None) -> tuple[int, str]:
    """Return the level and text of the message when something has to be compiled."""
    import numba

    if confined():
        return logging.INFO, (
            "compiling kernels for this run only (some seconds): --isolate does not store them; "
            "to store them, run once without --isolate, on a model that you trust"
        )
    asked = str(getattr(numba.config, "CACHE_DIR", ""))
    if cache is None:
        where = f"NUMBA_CACHE_DIR={asked}" if asked else "the package's folder and your own cache"
        return logging.WARNING, (
            f"{where} cannot be written: the kernels are compiled again in every run, which takes "
            "some seconds; set NUMBA_CACHE_DIR to a writable folder"
        )
    if asked and Path(asked).resolve() not in Path(cache).resolve().parents:
        return logging.WARNING, (
            f"NUMBA_CACHE_DIR={asked} cannot be written: compiled kernels are kept in {cache}"
        )
    return logging.INFO, (
        f"compiling kernels, once after installation or an update (some seconds), into {cache}"
    )


@functools.cache
def _announce_compiling() -> None:
    """Say it once, when the first of the package's functions is really compiled."""
    from numba.core import event

    class Announcer(event.Listener):
        """Hears of what numba compiles."""

        def __init__(self) -> None:
            self._announced = threading.Lock()

        def on_start(self, event: Any) -> None:
            """Tell the user: numba calls this where no machine code on disk fits."""
            dispatcher = event.data["dispatcher"]
            if dispatcher.py_func.__module__.startswith(_HOME) and self._announced.acquire(
                blocking=False
            ):
                LOGGER.log(*_message(dispatcher.stats.cache_path))

        def on_end(self, event: Any) -> None:
            """Do nothing, which numba asks a listener for."""

    event.register("numba:compile", Announcer())  # type: ignore[no-untyped-call]
