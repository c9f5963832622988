"""Records for tests, from flat keywords."""

from onnx_geed import results


def measurement(
    *,
    deviations,
    elements,
    zero_pairs=0.0,
    per_channel=None,
    exact=None,
    normaliser=None,
    norm_samples=None,
    latent_norm=None,
    between=None,
    reference_norm=1.0,
    skipped=0,
    **options,
):
    """A record; ``exact`` is (members, their deviations), ``per_channel`` (all, exact ones)."""
    own, of_exact = per_channel or (None, None)
    return results.make_record(
        results.OrbitDeviations(deviations, elements, zero_pairs, own, skipped),
        exact=None
        if exact is None
        else results.OrbitDeviations(
            exact[1], [elements[g] for g in exact[0]], per_channel=of_exact
        ),
        normaliser=results.Normaliser(normaliser, norm_samples, latent_norm),
        between=None if between is None else results.BetweenSamples(between, reference_norm),
        **options,
    )
