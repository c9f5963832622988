"""The inputs of a model: the acted-on one, those that may move with it, and their layouts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx

from onnx_geed.errors import GeedError, nearest
from onnx_geed.groups import check_input_layout, usual_layouts
from onnx_geed.model.io import Model
from onnx_geed.model.metadata import INPUT, INPUT_LAYOUT, layout_key, layouts_in_metadata

__all__ = [
    "Input",
    "StatedLayouts",
    "find_input",
    "further_inputs",
    "input_layout",
    "inputs",
    "layouts_in_file",
    "stored_input",
]


@dataclass(frozen=True)
class Input:
    """An input of a model.

    Parameters
    ----------
    name : str
        Its name.
    dtype : str
        numpy's name of its dtype.
    shape : tuple of int or None
        With the batch axis; ``None`` where a length is free; empty where the file states none.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


def inputs(model: Model) -> tuple[Input, ...]:
    """Return a model's inputs, those with an initializer left out."""
    fixed = {i.name for i in model.proto.graph.initializer}
    return tuple(_input(i) for i in model.proto.graph.input if i.name not in fixed)


def _input(info: onnx.ValueInfoProto) -> Input:
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        return Input(info.name, str(kind).removesuffix("_type"), ())
    tensor = info.type.tensor_type
    try:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except KeyError:
        dtype = "unknown"
    shape = tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim)
    return Input(info.name, dtype, shape)


#: Layouts of inputs as a user states them: of the only or the acted-on one, or by name.
StatedLayouts = str | Mapping[str, str] | None


# What layouts of inputs with so many axes are for, where none can be told from lengths.
_MEANT = {
    2: "NT (a line, or token ids), NP (one number or id a point) or NK (a vector)",
    3: "NCT or NTC (channels along a line), NPX (vectors of points), NPC (features of points), "
    "NPP (an adjacency) or NHW (a plane)",
}


def find_input(model: Model, name: str | None = None, layouts: StatedLayouts = None) -> Input:
    """Return the acted-on input; where several are moved, the main one of them.

    Parameters
    ----------
    model : Model
        The model.
    name : str, optional
        Its name; by default from the metadata, else the only float input of rank 3 to 5, or of
        images of bytes, which the model scales itself, else the first with a stated layout.
    layouts : str or mapping of str to str, optional
        Layouts as the user states them: of the acted-on input, or by the names of inputs, with an
        empty name for the acted-on one.

    Returns
    -------
    Input

    Raises
    ------
    GeedError
        If there is no such input, or none that a group acts on.
        If several would do.
        If a layout is stated for an input that the model has not.
    """
    every = {i.name: i for i in inputs(model)}
    stated = _stated(model, every, layouts)
    wanted = name or model.metadata.get(INPUT)
    if wanted is not None:
        if wanted not in every:
            raise GeedError(
                f"--input {wanted}: the model has no such input; it has {', '.join(every)}."
                f"{nearest(wanted, every)}"
            )
        chosen = every[wanted]
        if not (_acted_on(chosen) or _is_image(chosen) or stated.keys() & {chosen.name, ""}):
            raise GeedError(
                f"--input {wanted}: is {chosen.dtype} {_text(chosen.shape)}; name a float input "
                f"such as (N, C, H, W), or state the axes of this one: {_option(chosen)}"
            )
        return _with_batch(chosen, stated)
    fit = [i for i in every.values() if _acted_on(i)]
    fit = fit or [i for i in every.values() if _is_image(i)]
    if len(fit) == 1:
        return _with_batch(fit[0], stated)
    named = [every[key] for key in stated if key]
    if not named and (text := stated.get("")):
        named = [i for i in fit or every.values() if len(i.shape) == len(text)]
        named = named if len(named) == 1 else []
    if named:
        return _with_batch(named[0], stated)
    if not fit:
        listed = ", ".join(f"{i.name} {i.dtype} {_text(i.shape)}" for i in every.values())
        raise GeedError(
            f"found no input that a group can act on ({listed or 'the model has none'}); it must "
            "be a float input such as (N, C, H, W), or one whose axes are stated"
            + "".join(f": {_option(one)}" for one in [*every.values()][:1])
        )
    raise GeedError(
        f"the group could act on several inputs ({', '.join(i.name for i in fit)}): name one "
        "with --input NAME, and give the others with --feed NAME=FILE, or state with "
        "--input-layout NAME=LETTERS the layouts of those that move together"
    )


def _stated(model: Model, every: Collection[str], layouts: StatedLayouts) -> dict[str, str]:
    """Return stated layouts by input, the user's first; that of the acted-on one has no name."""
    stated = _by_user(every, layouts)
    in_file = layouts_in_metadata(model)
    stated |= {key: in_file[key] for key in every if key in in_file and key not in stated}
    if text := model.metadata.get(INPUT_LAYOUT):
        stated.setdefault(model.metadata.get(INPUT, ""), text)
    return stated


def _by_user(every: Collection[str], layouts: StatedLayouts) -> dict[str, str]:
    given = {"": layouts} if isinstance(layouts, str) else dict(layouts or {})
    stated = {key: text for key, text in given.items() if text}
    for key, text in stated.items():
        if key and key not in every:
            raise GeedError(
                f"--input-layout {key}={text}: the model has no input {key!r}; it has "
                f"{', '.join(every)}.{nearest(key, every)}"
            )
    return stated


def _acted_on(input: Input) -> bool:
    return input.dtype.startswith("float") and 3 <= len(input.shape) <= 5


def _is_image(input: Input) -> bool:
    """Say whether an input is of bytes, such as images that the model itself scales."""
    return input.dtype == "uint8" and len(input.shape) == 4 and len(_by_channels(input)) == 1


def _option(input: Input) -> str:
    """Return the option that states the axes of an input, as a user types it."""
    layouts = _by_channels(input) if len(input.shape) > 3 else ()
    if layouts:
        return f"--input-layout {' or '.join(f'{input.name}={layout}' for layout in layouts)}"
    meant = _MEANT.get(len(input.shape), "such as NK")
    return f"--input-layout {input.name}=LETTERS, {meant}"


def _by_channels(input: Input) -> tuple[str, ...]:
    """Return the layouts that an input of four or five axes may have, by its lengths."""
    channels_first, channels_last = usual_layouts(len(input.shape))[:2]
    first, last = input.shape[1] in (1, 3, 4), input.shape[-1] in (1, 3, 4)
    if first == last:
        return channels_first, channels_last
    return (channels_first,) if first else (channels_last,)


def _with_batch(input: Input, stated: Mapping[str, str]) -> Input:
    # Three or four rows of one-channel images are unheard of; one colour image is not.
    if len(input.shape) == 3 and input.shape[0] in (3, 4) and not stated.keys() & {input.name, ""}:
        raise GeedError(
            f"input {input.name!r} {_text(input.shape)} has no batch axis; export the model for "
            f"(N, {_text(input.shape)[1:]}"
        )
    return input


def _text(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('?' if d is None else str(d) for d in shape)})" if shape else "(?)"


def input_layout(model: Model, input: Input, layouts: StatedLayouts = None) -> str:
    """Return the layout of the acted-on input.

    Parameters
    ----------
    model : Model
        The model.
    input : Input
        Its acted-on input.
    layouts : str or mapping of str to str, optional
        Layouts as the user states them, as :func:`find_input` takes them; else the metadata, else
        the shape decides.

    Returns
    -------
    str
        One letter an axis, as :func:`onnx_geed.groups.check_input_layout` takes it: ``NCHW`` or
        ``NHWC`` for rank 4, ``NCDHW`` or ``NDHWC`` for rank 5, or what is stated.

    Raises
    ------
    GeedError
        If neither or both layouts fit the shape, or none is stated of fewer axes or of integers.
        If a stated layout is none, or has not one letter for each axis.
        If the metadata state two of one input.

    Notes
    -----
    Choice: an axis of length 1, 3 or 4 is the channels, if it comes first or last, not both.
    """
    if stated := _layout_stated(model, input, layouts, main=True):
        return stated
    rank, called = len(input.shape), f"{input.name!r} {_text(input.shape)}"
    if rank < 4:
        meant = _MEANT.get(rank, "such as NK")
        raise GeedError(f"the layout of input {called} must be stated: give --input-layout {meant}")
    fitting = _by_channels(input)
    if len(fitting) == 1:
        return fitting[0]
    channels_first, channels_last = fitting
    more = " (T for the frames of a video)" if rank == 5 else ""
    raise GeedError(
        f"the layout of input {called} is not clear from its shape: give --input-layout "
        f"{channels_first} or {channels_last}{more}"
    )


def _layout_stated(model: Model, input: Input, layouts: StatedLayouts, *, main: bool) -> str | None:
    """Return the layout that is stated of an input, if it fits; the user's is asked first."""
    by_user = _by_user([i.name for i in inputs(model)], layouts)
    return _layout_of(input, by_user, _layouts_by_key(model, input.name), main=main)


def _layout_of(
    input: Input,
    by_user: Mapping[str, str],
    in_file: Mapping[str, Mapping[str, str]],
    *,
    main: bool = False,
) -> str | None:
    """Return an input's layout of those that are stated, by the user or in the file."""
    rank, called = len(input.shape), f"{input.name!r} {_text(input.shape)}"
    if main and "" in by_user and by_user.get(input.name, by_user[""]) != by_user[""]:
        raise GeedError(
            f"--input-layout {input.name}={by_user[input.name]}: that of the acted-on input is "
            f"also stated without its name, as {by_user['']}; give one of the two"
        )
    for key in (input.name, "") if main else (input.name,):
        if text := by_user.get(key):
            return check_input_layout(text, rank, "--input-layout", called)
    stored = in_file.get(input.name, {})
    if len({*stored.values()}) > 1:
        both = " and ".join(f"{key} = {text}" for key, text in stored.items())
        raise GeedError(
            f"the metadata state two layouts of input {called}, {both}: state one with "
            f"--input-layout {input.name}=LETTERS, in onnx-geed annotate for good"
        )
    for key, text in stored.items():
        return check_input_layout(text, rank, f"metadata {key}", called)
    return None


def further_inputs(
    model: Model, acted: Input, layouts: StatedLayouts = None
) -> tuple[tuple[Input, str], ...]:
    """Return the other inputs whose layout is stated, which a group may move too.

    Parameters
    ----------
    model : Model
        The model.
    acted : Input
        The acted-on input, from :func:`find_input`.
    layouts : str or mapping of str to str, optional
        Layouts as the user states them, as :func:`find_input` takes them; else those that the
        metadata state.

    Returns
    -------
    tuple of (Input, str)
        Inputs with their layouts, in the model's order.

    Raises
    ------
    GeedError
        If a stated layout is none, or has not one letter for each axis.
        If the metadata state two of one input.
        If a layout is stated for an input that the model has not.
    """
    every = inputs(model)
    # Looked up once: of thousands of inputs each would else walk over all of them.
    by_user = _by_user([i.name for i in every], layouts)
    in_file = _layouts_by_key(model, acted.name)
    pairs = [(i, _layout_of(i, by_user, in_file)) for i in every if i.name != acted.name]
    return tuple((i, text) for i, text in pairs if text)


def stored_input(model: Model, acted: str) -> str:
    """Return the input to which a file's settings of an input belong: layout and preprocessing.

    It is the one that the metadata name, else the one that is acted on where nothing is said. If
    that has a layout with its own name, one without a name is of the only other input that it
    fits. Where none is told by this, it is the one that is acted on now.
    """
    if INPUT in model.metadata:
        return model.metadata[INPUT]
    try:
        found = find_input(model).name
    except GeedError:
        return acted
    text, named = model.metadata.get(INPUT_LAYOUT), layouts_in_metadata(model)
    if not text or found not in named:
        return found
    left = [i.name for i in inputs(model) if i.name not in named and len(i.shape) in (0, len(text))]
    return left[0] if len(left) == 1 else acted


def layouts_in_file(model: Model, acted: str) -> dict[str, str]:
    """Return layouts by tensor, as the metadata state them, also of the acted-on input."""
    return {name: [*by.values()][-1] for name, by in _layouts_by_key(model, acted).items()}


def _layouts_by_key(model: Model, acted: str) -> dict[str, dict[str, str]]:
    """Return the layouts that a file states: by tensor, then by the key of the metadata."""
    stated = layouts_in_metadata(model).items()
    found = {name: {layout_key(name): text} for name, text in stated if text}
    if text := model.metadata.get(INPUT_LAYOUT):
        found.setdefault(stored_input(model, acted), {})[INPUT_LAYOUT] = text
    return found
