"""G-EED, eq. (2) to (6): what is measured, on arrays and as graph nodes."""

from typing import TYPE_CHECKING

from onnx_geed.faces import lazy

if TYPE_CHECKING:
    from onnx_geed.measures.catalogue import (
        CATALOGUE as CATALOGUE,
        Descriptor as Descriptor,
        Support as Support,
        descriptor_of as descriptor_of,
        judge_of_fits as judge_of_fits,
    )
    from onnx_geed.measures.deviations import (
        channel_sums_of_orbits as channel_sums_of_orbits,
        check_divergences as check_divergences,
        class_counts as class_counts,
        deviations_from_references as deviations_from_references,
        deviations_of_orbits as deviations_of_orbits,
        f_hat as f_hat,
        measured_at_places as measured_at_places,
        operands_of_orbits as operands_of_orbits,
        orbit_deviations as orbit_deviations,
        pair_deviations as pair_deviations,
    )
    from onnx_geed.measures.error_shares import (
        error_gaps as error_gaps,
        errors_of_orbits as errors_of_orbits,
    )
    from onnx_geed.measures.feature_maps import (
        deviations_of_sums as deviations_of_sums,
        needs_sums_alone as needs_sums_alone,
    )
    from onnx_geed.measures.fit_defect import (
        as_representation as as_representation,
    )
    from onnx_geed.measures.fit_solving import (
        LAMBDAS as LAMBDAS,
    )
    from onnx_geed.measures.fit_sums import (
        FOLDS as FOLDS,
        MOST_PERMUTED as MOST_PERMUTED,
        FitSums as FitSums,
        fit_bytes as fit_bytes,
        fit_seconds as fit_seconds,
    )
    from onnx_geed.measures.functional import (
        channel_cos as channel_cos,
        channel_sums as channel_sums,
        flip_rate as flip_rate,
        latent_cos as latent_cos,
        latent_l2 as latent_l2,
        output_l2 as output_l2,
        sensitivity as sensitivity,
        softmax_kl as softmax_kl,
        unexplained as unexplained,
    )
    from onnx_geed.measures.graph_actions import (
        orbit_nodes as orbit_nodes,
    )
    from onnx_geed.measures.graph_classes import (
        class_count_nodes as class_count_nodes,
        place_class_nodes as place_class_nodes,
        predicted_class_nodes as predicted_class_nodes,
    )
    from onnx_geed.measures.graph_deviations import (
        DeviationNodes as DeviationNodes,
        activation_nodes as activation_nodes,
        channel_mean_nodes as channel_mean_nodes,
        check_written_as_nodes as check_written_as_nodes,
        deviation_nodes as deviation_nodes,
        identity_nodes as identity_nodes,
        value_range_nodes as value_range_nodes,
    )
    from onnx_geed.measures.graph_pixels import (
        changed_nodes as changed_nodes,
        check_changed_as_nodes as check_changed_as_nodes,
    )
    from onnx_geed.measures.graph_stacks import (
        StackSums as StackSums,
        stack_bytes as stack_bytes,
        stack_sum_nodes as stack_sum_nodes,
        stacks_of as stacks_of,
    )
    from onnx_geed.measures.layer import (
        Layer as Layer,
    )
    from onnx_geed.measures.map_memory import (
        loop_bytes as loop_bytes,
    )
    from onnx_geed.measures.map_tables import (
        MapSums as MapSums,
        map_sums as map_sums,
    )
    from onnx_geed.measures.measure import (
        Measure as Measure,
        by_sample as by_sample,
    )
    from onnx_geed.measures.normalisation import (
        normaliser as normaliser,
    )
    from onnx_geed.measures.opposites import (
        check_goes_with_group as check_goes_with_group,
        taken_unasked as taken_unasked,
    )
    from onnx_geed.measures.place_counts import (
        Known as Known,
        PlaceCounts as PlaceCounts,
        at_places as at_places,
        count_places as count_places,
        join_place_counts as join_place_counts,
    )
    from onnx_geed.measures.places import (
        Places as Places,
    )
    from onnx_geed.measures.plan import (
        Plan as Plan,
        make_plan as make_plan,
        view as view,
    )
    from onnx_geed.measures.requests import (
        Request as Request,
        parse_request as parse_request,
    )
    from onnx_geed.measures.scores import (
        ProbabilityError as ProbabilityError,
        check_probabilities as check_probabilities,
        classes_of_x as classes_of_x,
        log_probabilities as log_probabilities,
        moved_classes as moved_classes,
        predicted_classes as predicted_classes,
    )
    from onnx_geed.measures.spread import (
        Spread as Spread,
    )
    from onnx_geed.measures.telling import (
        MINUS as MINUS,
        Scale as Scale,
        beyond_rounding as beyond_rounding,
        gap_within as gap_within,
        perfect_words as perfect_words,
        range_of as range_of,
        sign_words as sign_words,
        told as told,
        told_ends as told_ends,
        told_gap as told_gap,
        within as within,
    )

lazy(globals())
