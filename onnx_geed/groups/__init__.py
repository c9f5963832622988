"""Groups, layouts, and how elements move arrays."""

from typing import TYPE_CHECKING

from onnx_geed.faces import lazy

if TYPE_CHECKING:
    from onnx_geed.groups.action import (
        Action as Action,
        composes as composes,
        without_row as without_row,
    )
    from onnx_geed.groups.action_tables import (
        Table as Table,
        TableKind as TableKind,
        parse_table as parse_table,
        rows_for as rows_for,
        subgroup_table as subgroup_table,
        table_content as table_content,
        table_digest as table_digest,
        table_of as table_of,
        table_to_json as table_to_json,
        vector_action as vector_action,
        with_channels as with_channels,
    )
    from onnx_geed.groups.by_letters import (
        LayoutAction as LayoutAction,
        grid_action as grid_action,
        layout_action as layout_action,
        still_action as still_action,
    )
    from onnx_geed.groups.components import (
        with_components as with_components,
    )
    from onnx_geed.groups.exactness import (
        IDENTITY_TOLERANCE as IDENTITY_TOLERANCE,
        Exactness as Exactness,
    )
    from onnx_geed.groups.families import (
        Family as Family,
        own_members as own_members,
    )
    from onnx_geed.groups.fit import (
        Fit as Fit,
        FitKind as FitKind,
    )
    from onnx_geed.groups.grid_motions import (
        moved_axes as moved_axes,
    )
    from onnx_geed.groups.grid_tables import (
        Interpolation as Interpolation,
    )
    from onnx_geed.groups.group import (
        Components as Components,
        Group as Group,
        product as product,
    )
    from onnx_geed.groups.layout import (
        LETTERS as LETTERS,
        MAP_LAYOUTS as MAP_LAYOUTS,
        Layout as Layout,
        check_input_layout as check_input_layout,
        check_layout as check_layout,
        parse_layout as parse_layout,
        usual_layouts as usual_layouts,
    )
    from onnx_geed.groups.moves import (
        Moves as Moves,
    )
    from onnx_geed.groups.named import (
        colours_of as colours_of,
        moves_places as moves_places,
        parse_group as parse_group,
        recorded_group as recorded_group,
    )
    from onnx_geed.groups.orbits import (
        orbit as orbit,
        orbit_of as orbit_of,
        orbits_of as orbits_of,
    )
    from onnx_geed.groups.own_action import (
        FunctionAction as FunctionAction,
        IndexAction as IndexAction,
    )
    from onnx_geed.groups.photometric import (
        blur_matrix as blur_matrix,
        luma_weights as luma_weights,
        swap as swap,
    )
    from onnx_geed.groups.placed_action import (
        PlacedAction as PlacedAction,
        acts_as_named as acts_as_named,
        on_hidden as on_hidden,
        permutation_of as permutation_of,
        place as place,
        tables_of as tables_of,
    )
    from onnx_geed.groups.plane_groups import (
        cyclic as cyclic,
        dihedral as dihedral,
    )
    from onnx_geed.groups.small_groups import (
        before_backgrounds as before_backgrounds,
        clipping as clipping,
        family_group as family_group,
        from_side_to_side as from_side_to_side,
        on_grid as on_grid,
        undoing as undoing,
    )
    from onnx_geed.groups.small_motions import (
        SmallMotions as SmallMotions,
    )
    from onnx_geed.groups.support import (
        disk_mask as disk_mask,
        within_disk as within_disk,
    )
    from onnx_geed.groups.table_files import (
        read_table as read_table,
        read_tables as read_tables,
        write_fits as write_fits,
    )
    from onnx_geed.groups.table_memory import (
        Lettered as Lettered,
        is_moved as is_moved,
        table_bytes as table_bytes,
    )
    from onnx_geed.groups.turns import (
        Turns as Turns,
        angle as angle,
        turns_of as turns_of,
    )
    from onnx_geed.groups.unmoved import (
        check_bases as check_bases,
        check_moves as check_moves,
    )
    from onnx_geed.groups.vectors import (
        Matrices as Matrices,
        Permutation as Permutation,
        Trivial as Trivial,
    )

lazy(globals())
