"""Write layouts, kinds, actions and classes into a model's metadata, for ``measure`` to read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnx_geed.copies import copy_file, read_by_copy
from onnx_geed.data import Preprocess, parse_preprocess, preprocess_to_json
from onnx_geed.errors import GeedError, reason_of
from onnx_geed.groups import Table, read_table, table_to_json
from onnx_geed.held import read_text
from onnx_geed.model.chosen_input import (
    StatedLayouts,
    find_input,
    inputs,
    stored_input,
)
from onnx_geed.model.chosen_output import (
    StatedKind,
    find_output,
    stored_output,
)
from onnx_geed.model.io import Model, load_model, read_proto, write_model
from onnx_geed.model.listing import layouts_as_stated, list_as_stated
from onnx_geed.model.metadata import (
    CLASSES,
    INPUT,
    INPUT_LAYOUT,
    LATENT,
    OUTPUT,
    OUTPUT_KIND,
    PREPROCESS,
    action_key,
    layout_key,
    parse_classes,
)
from onnx_geed.model.soundness import refusing_unsound
from onnx_geed.model.tensor_names import patterns_first, resolve, stated_layouts
from onnx_geed.model.tensors import Tensor
from onnx_geed.text import counted
from onnx_geed.typed import check_value

__all__ = ["annotate_model"]

# Of a table: with ten or twenty digits each, a model's file is no place for more.
_MOST_NUMBERS = 1 << 20


def annotate_model(
    path: str | Path,
    out: str | Path,
    *,
    input: str | None = None,
    input_layout: StatedLayouts = None,
    output: str | None = None,
    output_kind: StatedKind | None = None,
    latent: str | None = None,
    preprocess: str | Path | Preprocess | None = None,
    layout: Mapping[str, str] | None = None,
    output_action: Mapping[str, str | Path | Table] | None = None,
    classes: str | Path | None = None,
) -> dict[str, str]:
    """Copy a model with metadata added; keys that are not named stay as they are.

    Where another input is named, the stored layouts stay those of their inputs; where another
    output is, the kind of the former one is left out, and a latent that it is not computed from.

    Parameters
    ----------
    path : str or Path
        The ONNX file.
    out : str or Path
        Path of the annotated model; its external data are copied beside it.
    input, input_layout, output, output_kind, latent, preprocess, layout, output_action
        As the options of ``onnx-geed measure``.
    classes : str or Path, optional
        A text file with the name of each output's class, one a line, as labels are written.

    Returns
    -------
    dict of str to str
        The keys that were written.

    Raises
    ------
    GeedError
        If a name is not in the model.
        If a value does not fit its key.
        If another input is named than that which the stored preprocessing is for.
        If a table holds more than 2²⁰ numbers.
        If the classes are not as many as the output has.
        If there is nothing to write.
        If the file cannot be written.
    """
    input = check_value("--input", input, str | None)
    output = check_value("--output", output, str | None)
    input_layout = check_value("--input-layout", input_layout, str | Mapping[str, str] | None)
    output_kind = check_value("--output-kind", output_kind, StatedKind | None)
    latent = check_value("--latent", latent, str | None)
    preprocess = check_value("--preprocess", preprocess, str | Path | Preprocess | None)
    layout = check_value("--layout", layout or {}, Mapping[str, str])
    output_action = check_value(
        "--output-action", output_action or {}, Mapping[str, str | Path | Table]
    )
    model = load_model(path)
    with refusing_unsound(model.path):
        acted, named = find_input(model, input, input_layout), find_output(model, output)
        layouts = layouts_as_stated(model, acted, input_layout)
        listed = list_as_stated(model, acted.name, named, input_layout=layouts, kind=output_kind)
    entries: dict[str, str] = {}
    if input:
        entries[INPUT] = acted.name
    if output:
        entries[OUTPUT] = named
    if input_layout:
        entries |= {layout_key(name): text for name, text in layouts.items()}
        entries[INPUT_LAYOUT] = entries.pop(layout_key(acted.name))
        if len(inputs(model)) > 1:  # which of them is the main one is told by no layout
            entries[INPUT] = acted.name
    if output_kind:
        entries[OUTPUT_KIND] = output_kind
    if latent:
        entries[LATENT] = resolve(listed, latent)[0].name
    if preprocess:
        if not isinstance(preprocess, Preprocess):
            preprocess = parse_preprocess(str(preprocess))
        entries[PREPROCESS] = preprocess_to_json(preprocess)
    for name, text in stated_layouts(listed, layout).items():
        entries[layout_key(name)] = text
    for key, source in patterns_first(listed, output_action):
        given = source if isinstance(source, Table) else read_table(source)
        if given.values.size > _MOST_NUMBERS:
            raise GeedError(
                f"{given.source}: {given.values.size:,} are too many numbers for a model's "
                "metadata; give the file to onnx-geed measure instead, with --output-action"
            )
        table = table_to_json(given)
        for tensor in resolve(listed, key):
            entries[action_key(tensor.name)] = table
    if classes:
        entries[CLASSES] = _classes(classes)
        tensor = next(t for t in listed if t.name == named)
        letters = entries.get(layout_key(named), tensor.layout)
        _check_number_of_classes(classes, parse_classes(entries[CLASSES]) or (), tensor, letters)
    if not entries:
        raise GeedError(
            "annotate: nothing to write; give an option such as --preprocess or --latent"
        )
    kept = _kept(model, acted.name, named, listed, entries)
    _write(model, out, kept | entries)
    return entries


@read_by_copy(copy_file)
def _classes(path: str | Path) -> str:
    try:
        lines = read_text(path, f"--classes {path}").splitlines()
    except FileNotFoundError:
        raise GeedError(
            f"--classes {path}: no such file; give a text file with one class per line"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise GeedError(f"--classes {path}: cannot be read as text ({reason_of(error)})") from None
    named = [line.strip() for line in lines if line.strip()]
    twice = [name for name, count in Counter(named).items() if count > 1]
    if twice:
        raise GeedError(
            f"--classes {path}: names {twice[0]!r} twice; give each class a name of its own"
        )
    text = json.dumps(named, ensure_ascii=False)
    if not parse_classes(text):
        raise GeedError(
            f"--classes {path}: is empty; write one class per line, in the outputs' order"
        )
    return text


def _check_number_of_classes(
    path: str | Path, names: Sequence[str], output: Tensor, letters: str
) -> None:
    """Refuse names of classes that are not as many as the output has, where its file says so."""
    shape = output.shape or ()
    # Scores at places have their classes along C; a row of scores is of no other letter.
    axis = letters.find("C") if "C" in letters and len(letters) == len(shape) else 1
    count = shape[axis] if len(shape) == 2 or axis != 1 or letters[1:2] == "C" else None
    # A single score tells two classes apart.
    if count is None or len(names) == max(count, 2):
        return
    raise GeedError(
        f"--classes {path}: names {counted(len(names), 'class', 'classes')}, but output "
        f"{output.name!r} has "
        f"{max(count, 2)}; write one class per line, in the outputs' order"
    )


def _kept(
    model: Model, acted: str, output: str, listed: Sequence[Tensor], entries: Mapping[str, str]
) -> dict[str, str]:
    """Return the metadata that stay, where the input or output that they speak of is another now.

    Raises
    ------
    GeedError
        If the stored preprocessing is for another input than is named now.
    """
    kept = dict(model.metadata)
    if INPUT in entries or INPUT_LAYOUT in entries:
        before = stored_input(model, acted)
        if before != acted and PREPROCESS in kept and PREPROCESS not in entries:
            raise GeedError(
                f"annotate: the file's {PREPROCESS} is for input {before!r}, not for {acted!r}, "
                "and a file holds that of one input: give that of the new one with --preprocess"
            )
        if before != acted and INPUT_LAYOUT in kept:
            kept.setdefault(layout_key(before), kept.pop(INPUT_LAYOUT))
        own = kept.get(layout_key(acted))
        # Two that differ are left as they are, for the user to say which is right.
        if own and own == entries.get(INPUT_LAYOUT, kept.get(INPUT_LAYOUT, own)):
            kept[INPUT_LAYOUT] = kept.pop(layout_key(acted))
        elif INPUT_LAYOUT in entries:
            kept.pop(layout_key(acted), None)
    if OUTPUT in entries and stored_output(model, output) != output:
        kept.pop(OUTPUT_KIND, None)
    # Stored with this output, another's latent would be taken for its own.
    latents = {tensor.name for tensor in listed if "latent" in tensor.roles}
    if OUTPUT in entries and kept.get(LATENT) not in latents:
        kept.pop(LATENT, None)
    return kept


def _write(model: Model, out: str | Path, metadata: Mapping[str, str]) -> None:
    # The file itself, and not the model as it was read, whose functions are inlined.
    proto = read_proto(model.path)
    del proto.metadata_props[:]
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    write_model(proto, model.path, out)
