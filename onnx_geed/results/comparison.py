"""Two results side by side: their paired differences, matched by measure and layer."""

from __future__ import annotations

from typing import cast

from onnx_geed.arguments import checked
from onnx_geed.errors import GeedError, shown
from onnx_geed.measures import descriptor_of
from onnx_geed.results.comparability import (
    action_differences,
    differences,
    matched,
    name_of,
    records_of,
    truth_differences,
    two_maps,
    what_sets_apart,
)
from onnx_geed.results.origin import same_model
from onnx_geed.results.paired_differences import paired
from onnx_geed.results.parts import part_words
from onnx_geed.results.reactions import insensitive_model
from onnx_geed.results.reading import read_record
from onnx_geed.results.result_file import is_result, of_results
from onnx_geed.results.schema import AnyResult, Comparison, ComparisonEntry, Result

__all__ = ["WHAT_IS_RELATIVE", "compare", "compared"]

SCHEMA = "onnx-geed/compare/1"


#: What stands in tables and pages where relative values do.
WHAT_IS_RELATIVE = "0 is perfect, 1 is as far as different samples are from each other"


@checked
@of_results
def compare(a: AnyResult, b: AnyResult, *, force: bool = False) -> Comparison:
    """Compare two results, paired over the same samples.

    Parameters
    ----------
    a, b : dict
        Results.
    force : bool
        Compare even if the results are not comparable.

    Returns
    -------
    dict
        Schema ``onnx-geed/compare/1``: ``schema``; ``a`` and ``b``, each result's ``file`` and
        ``model``; ``differ_in``, what was overlooked by ``force``; ``measurements``. Each of these
        has ``measure``, ``layer``, ``output_action_a`` and ``output_action_b`` (such as
        ``fit:linear``), ``compared`` (``value``; ``relative``; or ``unnormalised``, see Notes), the
        means ``a`` and ``b`` of what is compared, ``value_a``, ``value_b``, ``relative_a``,
        ``relative_b``, ``normaliser_a`` and ``normaliser_b``, ``difference`` (A - B, so negative
        where A is less far from equivariant), ``ci95`` (Student t over the paired differences),
        ``ci95_bootstrap`` (BCa over the same), ``interval`` (which of the two the verdict goes by,
        or ``score``) and ``verdict_ci95`` (that one), ``share_a_lower`` (of the samples),
        ``samples``, ``verdict`` in words and ``warnings``. Tables and pages print ``verdict`` and
        ``verdict_ci95`` as they stand here.
        Where the samples cannot be paired, all that rests on pairs is null, and ``verdict`` says
        why: what another input was fed, and what is padding, is part of a sample.

    Raises
    ------
    GeedError
        If group, data, samples, interpolation or support differ, unless ``force``.
        If output actions differ, and so do the models, unless ``force``.
        If no measure is in both.

    Notes
    -----
    Choice: the verdict goes by the bootstrap, which bears skewed differences, from ten pairs on,
    and by Student t for fewer, of which a bootstrap interval is too narrow. Where flips differ
    alike in all samples, neither has a width, and the score interval of paired shares decides. Of
    shares of the error, pairs count by the effective number of errors. Differences below 1e-6 of
    the measure's scale are rounding. Where a model hardly reacts to the input (no ``relative``,
    as ``between_samples`` is perfect to rounding), the verdict is that there is no conclusion: it
    would look invariant to anything. The difference and its intervals stand all the same.

    The normalised value of ``latent-cos`` is perfect at −1/M, another number for each model, and
    ``output-l2`` is in the units of each model's own outputs. Both are compared by each sample's
    deviation relative to different samples, (m − perfect) / (``between_samples`` − perfect), 0
    being perfect and 1 no closer than different samples are; so is ``latent-l2`` where an M is 0 or
    missing. Where one of the two has no ``relative``, the unnormalised values are compared, which
    is said.

    Where both are of one model, and of two output actions or of fits, they hold the same f(gx)
    against two predictions of it. Then values are compared as they are, and the verdict says which
    map predicts better.
    """
    for name, given in (("a", a), ("b", b)):
        if not is_result(given):
            raise GeedError(
                f"compare: {name} is not a result: found {shown(given)}; read a file with "
                "onnx_geed.load"
            )
    a, b = cast(Result, a), cast(Result, b)
    first, second = records_of(a), records_of(b)
    pairs = matched(a, b)
    differing = differences(a, b, pairs) + truth_differences(a, b, pairs)
    if not same_model(a["model"], b["model"]):
        differing += action_differences(a, b, pairs)
    if differing and not force:
        raise GeedError(
            f"compare: {name_of(a)} and {name_of(b)} differ in {', '.join(differing)}, so "
            "their values do not show which model is more equivariant; measure both in the same "
            "way, or compare them anyway with --force"
        )
    if not pairs:
        held = [", ".join("@".join(k) for k in list(r)[:3]) or "nothing" for r in (first, second)]
        raise GeedError(
            f"compare: {name_of(a)} and {name_of(b)} have no measure and layer in common (they "
            f"hold {held[0]}; {held[1]}); measure the same with --measure NAME@LAYER"
        )
    entries = [
        paired(
            first[x],
            second[y],
            a.get("seed", 0),
            apart=what_sets_apart(a, b, first[x]["samples"]),
            maps=two_maps(a, b, first[x], second[y]),
        )
        for x, y in pairs
    ]
    for letter, result in (("A", a), ("B", b)):
        doubt, part = _insensitive(result), result.get("part")
        for entry in entries:
            if part is not None:
                entry["warnings"].append(f"{letter}: {part_words(part)}")
            if doubt and descriptor_of(entry["measure"]).of_classes:
                entry["warnings"].append(f"{letter}: {doubt}")
    return {
        "schema": SCHEMA,
        "a": {"file": a.get("file"), **a["model"]},
        "b": {"file": b.get("file"), **b["model"]},
        "differ_in": differing,
        "measurements": entries,
    }


def _insensitive(result: Result) -> str:
    """Say that predictions stay because nothing moves them; nothing where they do not."""
    readings = [(record, read_record(record)) for record in result["measurements"]]
    return next((f"{f.text} {f.evidence}" for f in insensitive_model(result, readings)), "")


def compared(entry: ComparisonEntry) -> str:
    """Return the measure of a comparison's entry, with what of it was compared.

    Parameters
    ----------
    entry : dict
        An entry of ``measurements`` of :func:`compare`.

    Returns
    -------
    str
        Such as ``latent-cos, relative``.
    """
    scale = entry["compared"]
    return entry["measure"] + ("" if scale == "value" else f", {scale}")
