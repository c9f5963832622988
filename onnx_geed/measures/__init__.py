"""G-EED, eq. (2) to (6): what is measured, on arrays and as graph nodes."""

from typing import TYPE_CHECKING

from onnx_geed.faces import lazy

if TYPE_CHECKING:
    from onnx_geed.measures.catalogue import (
        CATALOGUE as CATALOGUE,
        Descriptor as Descriptor,
        Request as Request,
        Support as Support,
        descriptor_of as descriptor_of,
        parse_request as parse_request,
    )
    from onnx_geed.measures.channel_cosines import (
        channel_deviations as channel_deviations,
    )
    from onnx_geed.measures.deviations import (
        centres as centres,
        channel_sums_of_orbits as channel_sums_of_orbits,
        check_divergences as check_divergences,
        deviations_from as deviations_from,
        deviations_of_orbits as deviations_of_orbits,
        orbit_deviations as orbit_deviations,
        pair_deviations as pair_deviations,
        ready as ready,
    )
    from onnx_geed.measures.distances import (
        normaliser as normaliser,
    )
    from onnx_geed.measures.functional import (
        channel_cos as channel_cos,
        channel_sums as channel_sums,
        latent_cos as latent_cos,
        latent_l2 as latent_l2,
        output_l2 as output_l2,
        softmax_kl as softmax_kl,
    )
    from onnx_geed.measures.graph_actions import (
        orbit_of_samples as orbit_of_samples,
    )
    from onnx_geed.measures.graph_formulas import (
        activations as activations,
        by_channel as by_channel,
        deviation_nodes as deviation_nodes,
        identity_points as identity_points,
        point_size as point_size,
        predicted as predicted,
        value_range as value_range,
    )
    from onnx_geed.measures.measure import (
        Measure as Measure,
    )
    from onnx_geed.measures.plan import (
        Layer as Layer,
        Plan as Plan,
        inverse_of as inverse_of,
        make_plan as make_plan,
        unknown_layout as unknown_layout,
        view as view,
    )
    from onnx_geed.measures.scores import (
        ProbabilityError as ProbabilityError,
        check_probabilities as check_probabilities,
        log_probabilities as log_probabilities,
        predicted_classes as predicted_classes,
    )

lazy(globals())
