"""Families of one's own: functions of an image, by the names of the members that they make."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, known_names, reason_of, shown
from onnx_geed.own_code import importable, imported

__all__ = ["OwnMembers", "members_of"]

F32 = NDArray[np.float32]

_CONTRACT = (
    "a family is a mapping of member names to functions of one image, such as "
    "{'darker': darker}, or a function without arguments that returns one"
)


@dataclass(frozen=True)
class OwnMembers:
    """The members of a family of one's own; its functions are imported when they are used.

    Parameters
    ----------
    source : str
        Where they stand, ``module:function``.
    names : tuple of str
        Names of the members, in order.
    """

    source: str
    names: tuple[str, ...]

    def change(self, name: str, x: F32, sample: int) -> F32:
        """Return a sample as a member makes it.

        Parameters
        ----------
        name : str
            The member.
        x : ndarray of float32
            The sample, its axes in kept order: channels first, the plane last.
        sample : int
            Its number, for messages.

        Raises
        ------
        GeedError
            If the function fails, changes the shape, or gives NaN or infinity or no numbers.
        """
        member = f"group {self.source}: member {name} on sample {sample}"
        with importable():
            function = _mapping(self.source)[name]
            try:
                # A copy, so that a function may well change what it gets.
                given = function(x.copy())
                changed = np.asarray(given)
            except (Exception, SystemExit) as error:  # whatever a user's function raises
                raise GeedError(f"{member} raised {_raised(error)}") from None
        if changed.dtype.kind not in "fiub":
            raise GeedError(f"{member} returns {shown(given)}, not an array of numbers")
        if changed.shape != x.shape:
            raise GeedError(
                f"{member} has the shape {changed.shape}, but the sample has {x.shape}: a member "
                "must keep it"
            )
        with np.errstate(over="ignore"):  # what overflows is infinite, and told below
            changed = changed.astype(np.float32)
        if not np.isfinite(changed).all():
            raise GeedError(f"{member} holds NaN or infinity")
        return changed

    def digest(self, x: F32, sample: int) -> str:
        """Return a SHA-256 of what all members make of a sample, by which they are known again.

        Parameters
        ----------
        x : ndarray of float32
            The sample, as :meth:`change` takes it.
        sample : int
            Its number, for messages.

        Raises
        ------
        GeedError
            If :meth:`change` refuses one, or it gives something else the second time.
        """
        content = hashlib.sha256()
        for name in self.names:
            once, again = (self.change(name, x, sample) for _ in range(2))
            if not np.array_equal(once, again):
                raise GeedError(
                    f"group {self.source}: member {name} on sample {sample} returns something "
                    "else each time: make it depend only on the sample, and seed its random "
                    "numbers"
                )
            content.update(f"{name} {once.shape}".encode() + once.astype("<f4").tobytes())
        return content.hexdigest()


def _raised(error: BaseException) -> str:
    """Say what was raised, in few words."""
    reason = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}{f': {reason[:200]}' if reason else ''}"


def members_of(source: str) -> tuple[str, ...]:
    """Return the names of the members of a family of one's own.

    Raises
    ------
    GeedError
        If it cannot be imported, or fails.
        If it is not what gives members by name, or a name will not do.
    """
    with importable():
        names = tuple(_mapping(source))
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[!-~]+", name) or name == "e":
            found = repr(shown(name)) if isinstance(name, str) else shown(name)
            raise GeedError(
                f"group {source}: a member's name is a text of ASCII characters without spaces, "
                f"and not 'e', which is the image itself; found {found}"
            )
    return names


@functools.lru_cache(maxsize=8)
def _mapping(source: str) -> Mapping[str, Callable[[F32], Any]]:
    """Import the functions of a family."""
    where, (module, _, function) = f"group {source}", source.partition(":")
    try:
        members = imported(module, function, where)
        if callable(members) and not isinstance(members, Mapping):
            if asked := _asked(members):
                raise GeedError(
                    f"{where}: needs {asked}, so it may be a member, but it is not a family; "
                    f"{_CONTRACT}"
                )
            members = members()
    except GeedError:
        raise
    except ModuleNotFoundError as error:
        raise GeedError(f"{where}: cannot be imported ({reason_of(error)})") from None
    except (Exception, SystemExit) as error:  # whatever the user's program raises
        raise GeedError(f"{where}: raised {_raised(error)}; {_CONTRACT}") from None
    if not isinstance(members, Mapping) or not members:
        raise GeedError(f"{where}: {_CONTRACT}; found {shown(members)}")
    for name, member in members.items():
        if not callable(member):
            raise GeedError(
                f"{where}: member {shown(name)} is {shown(member)}, not a function of one image"
            )
    return dict(members)


def _asked(function: Callable[..., Any]) -> str:
    """Return the arguments that a function cannot be called without, in words; empty if none."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # as of some that are written in C
        return ""
    needed = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    return f"the argument{'s' if len(needed) > 1 else ''} {known_names(needed)}" if needed else ""
