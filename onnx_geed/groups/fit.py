"""A fit: how an output action that nobody gave was estimated, and from what."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from onnx_geed.errors import GeedError, reason_of

__all__ = ["Fit", "FitKind", "checked_fit", "fit_content", "fit_of"]

FitKind = Literal["permutation", "orthogonal", "linear"]


# Fields that parts of earlier versions were made without. A later one belongs here too.
_ADDED = frozenset({"inputs", "wholes"})


@dataclass(frozen=True)
class Fit:
    """How an output action was estimated from data.

    Parameters
    ----------
    kind : {"permutation", "orthogonal", "linear"}
        The kind of ρ(g).
    layer : str
        Name of the tensor.
    samples : int
        Number of samples that it was fitted to.
    lambda_ : float, optional
        By how much it was shrunk to the identity, in units of the mean square of a channel;
        ``None`` for permutations, which are not.
    defect : tuple of (float, float), optional
        How far it is from a representation, ‖(ρ(g)ρ(h) − ρ(gh)) A^½‖ / ‖ρ(gh) A^½‖: median and
        largest over pairs of elements other than e; ``None`` where products of the group's elements
        are not all in it.
    indices : tuple of int
        Which samples of the data these are.
    marks : tuple of str
        A digest of each of them, by which they are known in other data.
    fingerprint : str
        SHA-256 of these digests.
    inputs : tuple of str
        Where a sample has values for several inputs, their names; the digests above are of the
        acted-on one.
    wholes : tuple of str
        Then a digest of each sample with all of these.
    """

    kind: FitKind
    layer: str
    samples: int
    lambda_: float | None = None
    defect: tuple[float, float] | None = None
    indices: tuple[int, ...] = ()
    marks: tuple[str, ...] = ()
    fingerprint: str = ""
    inputs: tuple[str, ...] = ()
    wholes: tuple[str, ...] = ()

    def told(self) -> dict[str, Any]:
        """Return all of it by name, as parts of one run are held together by it.

        What earlier versions did not know is left out where it says nothing, so that their parts
        still belong to those of this one.
        """
        return {name: value for name, value in asdict(self).items() if value or name not in _ADDED}


def fit_content(fit: Fit) -> dict[str, Any]:
    """Return a fit as JSON has it."""
    content = {
        "kind": fit.kind,
        "layer": fit.layer,
        "samples": fit.samples,
        "lambda": fit.lambda_,
        "defect": None if fit.defect is None else list(fit.defect),
        "indices": list(fit.indices),
        "marks": list(fit.marks),
        "fingerprint": fit.fingerprint,
    }
    if fit.inputs:
        content |= {"inputs": list(fit.inputs), "wholes": list(fit.wholes)}
    return content


def checked_fit(fit: Fit) -> Fit:
    """Return a fit that was read, where it is one.

    Raises
    ------
    ValueError
        If there is no such kind, or samples have no digest each.
    """
    if fit.kind not in get_args(FitKind):
        raise ValueError(f"no kind of fit is called {fit.kind!r}")
    if len(fit.indices) != len(fit.marks):
        raise ValueError(f"{len(fit.indices)} samples have {len(fit.marks)} marks")
    if len(fit.wholes) != (len(fit.indices) if fit.inputs else 0):
        raise ValueError(f"{len(fit.indices)} samples have {len(fit.wholes)} marks of all inputs")
    return fit


def fit_of(content: Any, source: str) -> Fit:
    """Return the fit that :func:`fit_content` wrote.

    Raises
    ------
    GeedError
        If it does not say how a table was fitted.
    """
    try:
        defect = content["defect"]
        fit = Fit(
            content["kind"],
            str(content["layer"]),
            int(content["samples"]),
            None if content["lambda"] is None else float(content["lambda"]),
            None if defect is None else (float(defect[0]), float(defect[1])),
            tuple(map(int, content["indices"])),
            tuple(map(str, content["marks"])),
            str(content.get("fingerprint", "")),
            tuple(map(str, content.get("inputs", ()))),
            tuple(map(str, content.get("wholes", ()))),
        )
        return checked_fit(fit)
    except (TypeError, KeyError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise GeedError(
            f"{source}: 'fit' does not say how the table was fitted ({reason_of(error)}); write "
            "it with onnx-geed fit"
        ) from None
