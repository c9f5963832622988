"""Addresses in place of paths, such as ``s3://bucket/key``: any that fsspec opens.

Only those that the user names are asked for. fsspec is imported when the first one is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from onnx_geed.confinement import confined, out_of_reach
from onnx_geed.errors import GeedError, nearest, without_secrets
from onnx_geed.extras import package

__all__ = [
    "address_of",
    "asking",
    "check_address_writable",
    "close_names",
    "exists",
    "is_file",
    "joined",
    "kind_of",
    "leaf",
    "local_path",
    "make_address_folder",
    "named_place",
    "opened",
    "put",
    "sibling",
]

# One letter is a Windows drive; several schemes are a chain, such as simplecache::s3://.
_ADDRESS = re.compile(r"(?:[A-Za-z][A-Za-z0-9+-]+::)*[A-Za-z][A-Za-z0-9+-]+://")


# What pathlib makes of one.
_COLLAPSED = re.compile(r"([A-Za-z][A-Za-z0-9+-]+):[/\\](?![/\\])")


# Where one put makes a whole object or none. Elsewhere a file is written under another name first.
_OBJECT_STORES = frozenset(
    ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "obs", "oci", "memory", "hf")
)


_READ_ONLY = frozenset(("http", "https", "github", "git", "data", "zip", "tar", "libarchive"))


# Seconds until a host that does not answer is given up, and between two pieces of an answer.
_CONNECT, _ANSWER = 10, 30


# Requests that are made again after a failure; seconds that a list for close names may take.
_TRIES, _LISTING = 2, 5


# Words in the names of exceptions, which are those of many packages.
_NO_KEYS = ("Credential", "TokenRetrieval")


_UNREACHED = ("Connect", "Timeout", "Endpoint", "DNS", "SSL")


def address_of(given: object) -> str | None:
    """Return the address that was given in place of a path, or None.

    Parameters
    ----------
    given : object
        What the user gave: ``scheme://`` and more is an address. A Windows drive, ``FILE:KEY`` and
        ``module:function`` are none.

    Returns
    -------
    str or None
        As it was given; that of a :class:`~pathlib.Path` with its second slash again.
    """
    if isinstance(given, str):
        return given if _ADDRESS.match(given) else None
    if isinstance(given, PurePath) and (collapsed := _COLLAPSED.match(str(given))):
        return f"{collapsed[1]}://{given.as_posix()[len(collapsed[1]) + 2 :]}"
    return None


def named_place(given: str | Path) -> str | Path:
    """Return an address as it is, and the path of anything else."""
    return address_of(given) or Path(given)


def joined(place: str | Path, *names: str) -> str | Path:
    """Return the address or path of what lies below one."""
    address = address_of(place)
    return Path(place, *names) if address is None else "/".join([address.rstrip("/"), *names])


def sibling(place: str | Path, name: str) -> str | Path:
    """Return the address or path of what a relative path leads to from beside one."""
    address = address_of(place)
    if address is None or name.startswith("/"):
        return Path(place).parent / name
    scheme, slashes, rest = address.partition("://")
    above = rest.rstrip("/").split("/")[:-1]
    for part in name.split("/"):
        if part == ".." and len(above) > 1:
            above.pop()
        elif part != ".":
            above.append(part)
    return f"{scheme}{slashes}{'/'.join(above)}"


def leaf(place: str | Path) -> str:
    """Return the last name of an address or a path."""
    if (address := address_of(place)) is None:
        return Path(place).name
    _, _, rest = address.partition("://")
    if address.startswith(("http://", "https://")):
        from urllib.parse import unquote

        rest = unquote(re.split(r"[?#]", rest)[0])
    return rest.rstrip("/").rpartition("/")[2]


def opened(address: str) -> tuple[Any, str]:
    """Return an address's file system, which has nothing in memory, and its path there.

    Raises
    ------
    GeedError
        If this process is confined.
        If fsspec, or the package for such addresses, is not installed.
        If nothing knows such addresses.
    """
    if confined():
        raise out_of_reach(address)
    package("fsspec", "remote", address)
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    scheme = address.partition("://")[0].rpartition("::")[2]
    try:
        system, path = url_to_fs(address, **_patience(address))
    except ImportError as error:
        wanted = getattr(error.__cause__ or error, "name", None)
        if not wanted:
            raise GeedError(f"{address}: cannot be opened ({_first_line(error)})") from None
        brought = wanted in ("aiohttp", "requests")
        cure = f"pip install {wanted}" if not brought else "pip install 'onnx-geed[remote]'"
        raise GeedError(
            f"{address}: {scheme}:// needs the package {wanted}, which is not installed; {cure}"
        ) from None
    except ValueError as error:
        if "rotocol not known" not in str(error):
            raise GeedError(f"{address}: cannot be opened ({_first_line(error)})") from None
        near = nearest(scheme, known_implementations)
        raise GeedError(
            f"{address}: fsspec does not know {scheme}://; give an address such as s3://, gs:// "
            f"or https://.{near}"
        ) from None
    except Exception as error:
        raise GeedError(f"{address}: {_reason(error, 'opened')}") from None
    if hasattr(system, "retries"):
        system.retries = min(system.retries, _TRIES)
    system.invalidate_cache()
    return system, str(path)


def local_path(system: Any, path: str) -> Path | None:
    """Return where a ``file://`` address leads to on this disk; None for others."""
    return Path(path) if "file" in _schemes(system) else None


def _schemes(system: Any) -> Sequence[str]:
    scheme = system.protocol
    return (scheme,) if isinstance(scheme, str) else tuple(scheme)


def _patience(address: str) -> dict[str, Any]:
    """Return what bounds the waiting, unless the user's configuration of fsspec has its own."""
    scheme = address.partition("://")[0]
    from fsspec.config import conf

    if scheme in ("s3", "s3a"):
        times = {"connect_timeout": _CONNECT, "read_timeout": _ANSWER}
        ours: dict[str, Any] = {
            "config_kwargs": times | {"retries": {"total_max_attempts": _TRIES}}
        }
    elif scheme in ("http", "https"):
        try:
            import aiohttp
        except ImportError:  # which opening it says better
            return {}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_ANSWER)
        ours = {"client_kwargs": {"timeout": timeout}}
    else:
        return {}
    return {key: value for key, value in ours.items() if key not in conf.get(scheme, {})}


@contextlib.contextmanager
def asking(address: str, system: Any, path: str, done: str = "read") -> Iterator[None]:
    """Turn every error of a file system into one line.

    Raises
    ------
    GeedError
        If there is no such object, with close names; no right to it, or no credentials; if it
        cannot be reached, or fails.
    """
    try:
        yield
    except GeedError:
        raise
    except Exception as error:
        near = close_names(system, path) if _is_missing(error) and done == "read" else ""
        raise GeedError(f"{address}: {_reason(error, done)}{'.' if near else ''}{near}") from None


def close_names(system: Any, path: str) -> str:
    """Suggest names beside a path, where they can be listed in a moment."""
    folder, _, name = path.rstrip("/").rpartition("/")
    names: list[str] = []

    def list_names() -> None:
        with contextlib.suppress(Exception):  # a suggestion is worth no error of its own
            entries = system.ls(folder, detail=False)
            names.extend(str(entry).rstrip("/").rpartition("/")[2] for entry in entries)

    listing = threading.Thread(target=list_names, daemon=True)
    listing.start()
    listing.join(_LISTING)
    return nearest(name, list(names))


def _is_missing(error: BaseException) -> bool:
    root = _root(error)
    named = any(word in type(root).__name__ for word in ("NoSuch", "NotFound"))
    return isinstance(root, FileNotFoundError) or _status(root) == 404 or named


def _status(error: BaseException) -> object:
    """Return the number that a server answered, which packages call in different ways."""
    known = (getattr(error, name, None) for name in ("status", "status_code", "code"))
    return next((number for number in known if number is not None), None)


def _root(error: BaseException) -> BaseException:
    """Return what stands behind a file that is said to be missing, as where a host refuses."""
    while isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _reason(error: Exception, done: str) -> str:
    """Say in words what an error of a file system means, and what to do."""
    missing, root = _is_missing(error), _root(error)
    chain: list[BaseException] = []
    link: BaseException | None = root
    while link is not None and len(chain) < 6:
        chain.append(link)
        link = link.__cause__ or link.__context__
    names = [kind.__name__ for one in chain for kind in type(one).__mro__]
    said = _first_line(root)
    if isinstance(root, OSError) and root.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({said})"
    if missing:
        bucket = "bucket does not exist" in said or "NoSuchBucket" in said
        return "there is no such bucket" if bucket else "there is no such object, file or folder"
    if any(word in name for name in names for word in _NO_KEYS):
        return (
            "no credentials were found; set them as its storage service asks (for S3: "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws)"
        )
    if isinstance(root, PermissionError) or _status(root) in (401, 403):
        return f"permission denied ({said}); use credentials with which it can be {done}"
    unreached = any(word in name for name in names for word in _UNREACHED)
    if unreached or isinstance(root, ConnectionError | TimeoutError):
        return f"cannot be reached ({said}); check the address and the network"
    if isinstance(root, NotImplementedError):
        return f"cannot be {done}: its storage does not support that"
    return f"cannot be {done} ({type(root).__name__}: {said})"


def _first_line(error: BaseException) -> str:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return without_secrets(text)[:200]


def exists(place: str | Path) -> bool:
    """Say whether there is a file or folder at an address or a path.

    Raises
    ------
    GeedError
        If an address cannot be asked.
    """
    if (address := address_of(place)) is None:
        return Path(place).exists()
    system, path = opened(address)
    return kind_of(address, system, path) is not None


def is_file(place: str | Path) -> bool:
    """Say whether there is a file at an address or a path.

    Raises
    ------
    GeedError
        If an address cannot be asked.
    """
    if (address := address_of(place)) is None:
        return Path(place).is_file()
    return kind_of(address, *opened(address)) == "file"


def kind_of(address: str, system: Any, path: str) -> str | None:
    """Say whether ``file`` or ``folder`` is at a path of a file system, or None.

    Raises
    ------
    GeedError
        If it cannot be asked.
    """
    try:
        entry = system.info(path)
    except Exception as error:
        if _is_missing(error):
            return None
        raise GeedError(f"{address}: {_reason(error, 'read')}") from None
    # A server shows a folder as a page of links.
    page = str(entry.get("mimetype", "")).startswith("text/html")
    links = page and not leaf(address).lower().endswith((".html", ".htm"))
    return "folder" if entry["type"] == "directory" or links else "file"


def make_address_folder(address: str, option: str) -> None:
    """Make a folder where it takes one to hold files, which object stores need not.

    Raises
    ------
    GeedError
        If it cannot be made.
    """
    system, path = opened(address)
    if not _OBJECT_STORES.intersection(_schemes(system)):
        with asking(f"{option} {address}", system, path, "made"):
            system.makedirs(path, exist_ok=True)


def check_address_writable(address: str, option: str) -> None:
    """Make sure that an address can be written to, before a long run: a trial is put and removed.

    Raises
    ------
    GeedError
        If it can only be read, or not reached; without the right to write.
    """
    if address.endswith("/"):
        raise GeedError(f"{option} {address}: is a folder; name a file in it")
    trial = sibling(address, f".onnx-geed-{secrets.token_hex(8)}.unfinished")
    put(str(trial), b"", option=option, shown=address)
    system, path = opened(str(trial))
    with contextlib.suppress(Exception):  # who may write, and not remove, may still write
        system.rm_file(path)


def put(address: str, content: bytes | Path, *, option: str, shown: str = "") -> None:
    """Write an object or file, whole or not at all.

    Parameters
    ----------
    address : str
        Where it goes. What is there is replaced.
    content : bytes or Path
        All of it, or the file that holds it.
    option : str
        The option that named it, for messages.
    shown : str
        What messages call it; by default its address.

    Raises
    ------
    GeedError
        If it cannot be written; then what was there is as it was.

    Notes
    -----
    An object store shows an object when all of it has arrived. On a file system it is written
    under a temporary name and renamed.
    """
    called = f"{option} {shown or address}"
    system, path = opened(address)
    if _READ_ONLY.intersection(_schemes(system)):
        scheme = address.partition("://")[0]
        raise GeedError(
            f"{called}: {scheme}:// can only be read; write to a file, or to an address such "
            "as s3://"
        )
    with asking(called, system, path, "written"):
        if _OBJECT_STORES.intersection(_schemes(system)):
            _put_at(system, path, content)
            return
        folder, _, _ = path.rpartition("/")
        temporary = f"{folder}/.onnx-geed-{secrets.token_hex(8)}.unfinished"
        try:
            _put_at(system, temporary, content)
            system.mv(temporary, path)
        except BaseException:  # Ctrl-C too leaves nothing behind
            with contextlib.suppress(Exception):
                system.rm_file(temporary)
            raise


def _put_at(system: Any, path: str, content: bytes | Path) -> None:
    if isinstance(content, bytes):
        system.pipe_file(path, content)
    else:
        system.put_file(os.fspath(content), path)
