"""Commands on models: list tensors, annotate, compile, convert."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import click

from onnx_geed.cli.guarded import Guarded
from onnx_geed.cli.model_options import fed_options, metadata_options, tensor_options
from onnx_geed.cli.options import (
    action_options,
    data_option,
    format_option,
    group_option,
    isolate_options,
    measures_option,
    memory_option,
    model_argument,
    out_option,
    output_action_option,
    quiet_option,
    time_option,
)
from onnx_geed.cli.terminal import hushed, show, show_as, tell
from onnx_geed.errors import GeedError
from onnx_geed.safe_names import line_of

__all__ = ["annotate", "compile_model", "converters", "layers"]


@click.command(cls=Guarded)
@model_argument
@format_option("table", "json")
@tensor_options
@isolate_options
def layers(model: str | Path, form: str, **options: Any) -> None:
    """List a model's tensors with shape, size and role.

    \b
    Example:
      onnx-geed layers resnet50.onnx
    """
    from onnx_geed.model import list_layers
    from onnx_geed.report import layer_table

    listing = list_layers(
        model,
        layout_of_input=options.pop("input_layout"),
        kind=options.pop("output_kind"),
        **options,
    )
    show_as(form, listing, layer_table)


@click.command(cls=Guarded)
@model_argument
@out_option("OUT.onnx", "File for the annotated model.", required=True)
@metadata_options
@output_action_option
@click.option(
    "--classes",
    metavar="FILE.txt",
    help="Names of the classes, one per line, in the order of the outputs.",
)
@isolate_options
def annotate(model: str | Path, out: str | Path, **options: Any) -> None:
    """Write preprocessing, latent, layouts and action tables into a model's metadata.

    \b
    Example:
      onnx-geed annotate model.onnx --preprocess imagenet --latent /Flatten_output_0 -o known.onnx
    """
    from onnx_geed.model import annotate_model

    for key, value in sorted(annotate_model(model, out, **options).items()):
        text = value if len(value) <= 90 else value[:87] + "..."
        show(line_of(f"{key} = {text}"), kept=True)


@click.command(name="compile", cls=Guarded)
@model_argument
@group_option(required=True)
@measures_option
@out_option("MEASURED.onnx", "File for the measurement.", required=True)
@data_option("Samples to test the model on, instead of noise.")
@fed_options
@action_options
@memory_option
@time_option
@isolate_options
@quiet_option
def compile_model(
    model: str | Path, group: str, out: str | Path, quiet: bool, **options: Any
) -> None:
    """Write a measurement as an ONNX file that takes samples and returns deviations.

    The file contains the group's action, the model and the measures, and runs in any ONNX runtime.
    Its input is that of the model; its outputs deviation/MEASURE/LAYER have the shape (samples,
    elements), and G-EED is their mean.

    \b
    Example:
      onnx-geed compile model.onnx --group C8 --preprocess imagenet -o measured.onnx
    """
    from onnx_geed.run import compile_measurement

    with hushed(quiet):
        measurement = compile_measurement(model, group, out, **options)
    for note in () if quiet else measurement["notes"]:
        tell(f"note: {note}")
    fed = measurement["input"]
    rows = [(fed["name"], fed["shape"], "input")]
    rows += [(output["name"], output["shape"], output["unit"]) for output in measurement["outputs"]]
    for name, shape, unit in rows:
        show(line_of(f"{name}  ({', '.join(map(str, shape))})  {unit}"), kept=True)


@click.command(cls=Guarded)
@quiet_option
def converters(quiet: bool) -> None:
    """Print the folder of the converter scripts.

    A script needs its framework, onnx and onnxruntime, but not onnx-geed: run it with the Python
    that has the framework, in any environment.

    \b
    Examples:
      onnx-geed converters
      python "$(onnx-geed converters)/from_torch.py" --help
      /path/to/torch/bin/python "$(onnx-geed converters)/from_torch.py" --help
    """
    scripts = importlib.util.find_spec("onnx_geed.converters")
    if scripts is None or not scripts.submodule_search_locations:
        raise GeedError("the converter scripts are not installed: reinstall onnx-geed")
    folder = Path(next(iter(scripts.submodule_search_locations))).resolve()
    show(str(folder))
    # Not where a shell takes the folder.
    if not quiet and (sys.stdout.isatty() or not sys.stderr.isatty()):
        names = sorted(path.name for path in folder.glob("from_*.py"))
        tell(
            f'next: /path/to/python "{folder / "from_torch.py"}" --help, with the Python that '
            f"has PyTorch, in any environment; all scripts: {', '.join(names)}"
        )
