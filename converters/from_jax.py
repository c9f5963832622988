# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "equinox>=0.11", "flax>=0.10", "jax>=0.6", "jax2onnx>=0.12", "numpy>=2.0", "onnx>=1.17",
#     "onnxruntime>=1.20"
# ]
# ///
"""Turn a JAX model into an ONNX file that onnx-geed measures: Flax, Equinox or a plain function.

  from_jax.py nets.py:Net --checkpoint net.msgpack --input-shape 28,28,1 -o net.onnx
  from_jax.py nets.py:make_net --checkpoint net.eqx --input-shape 1,28,28 -o net.onnx
  from_jax.py nets.py:predict --input-shape 28,28,1 -o net.onnx

The callable makes a flax.linen or nnx or equinox module (its `rngs` or `key` is given), or a pair
(linen module, variables), (function, parameters), (equinox module, state); or it is itself a
function of a batch.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if __package__:
    from ._callables import look_up, parameters_of
    from ._exporters import inlined, quiet
    from ._finish import Source, finish
    from ._graph import fingerprint
    from ._inputs import Input, add_input_shape, in_order, layout_by_shape, read_inputs
    from ._options import Problem, command, missing, note, parser, reason_of
else:
    from _callables import look_up, parameters_of
    from _exporters import inlined, quiet
    from _finish import Source, finish
    from _graph import fingerprint
    from _inputs import Input, add_input_shape, in_order, layout_by_shape, read_inputs
    from _options import Problem, command, missing, note, parser, reason_of

INSTALL = "pip install jax jax2onnx flax equinox onnxruntime"


@dataclass(frozen=True, eq=False)
class Net:
    """A model of any of the frameworks.

    Parameters
    ----------
    forward : callable
        A batch of each input to the output.
    inputs : sequence of Input
        In the order of its call.
    watch : callable, optional
        The same to what the modules put out, by path.
    layout : str
        What the framework's convolutions expect; empty where nothing tells.
    """

    forward: Callable[..., Any]
    inputs: Sequence[Input]
    watch: Callable[..., dict[str, Any]] | None = None
    layout: str = ""


def arguments() -> argparse.ArgumentParser:
    command_parser = parser(__doc__ or "", "MODULE:CALLABLE or FILE.py:CALLABLE: see above")
    group = command_parser.add_argument_group("the model")
    add_input_shape(group, "H,W,C", required=True)
    group.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="weights: .msgpack of Flax, .eqx, .safetensors, .npz, or an Orbax folder",
    )
    group.add_argument(
        "--kwargs", metavar="JSON", default="{}", help="arguments of the callable, as a JSON object"
    )
    group.add_argument(
        "--call",
        metavar="JSON",
        default="{}",
        help='arguments of each call as a JSON object, such as {"train": false}',
    )
    group.add_argument("--opset", type=int, help="ONNX opset (default: jax2onnx's)")
    return command_parser


def convert(settings: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")
    # Elsewhere matrix products may be rounded to TF32 or bfloat16, and parity is in float32.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    with missing("jax", INSTALL):
        import jax  # noqa: F401
    with missing("jax2onnx", INSTALL), quiet():
        import jax2onnx
    net = load(settings, read_inputs(settings.input_shape))
    inputs = list(net.inputs)
    if len(inputs) == 1 and len(inputs[0].shape) == 3:
        # A module may permute what it takes: the input's own shape has the last word.
        layout = layout_by_shape(inputs[0].shape) or net.layout
        if not layout and not settings.input_layout:
            raise Problem("--input-layout is needed: NCHW or NHWC, or other letters")
        inputs = [replace(inputs[0], layout=layout)]

    def forward(*x: Any) -> Any:
        import numpy as np

        value = net.forward(*x)
        if not hasattr(value, "shape"):
            raise Problem(
                f"the model returns a {type(value).__name__}; wrap it so that it returns one array"
            )
        return np.asarray(value, np.float32)

    accept_positions()

    def export() -> Any:
        options: dict[str, Any] = {"opset": settings.opset} if settings.opset else {}
        with quiet():
            proto = jax2onnx.to_onnx(
                net.forward,
                [SimpleNamespace(shape=("batch", *i.shape), dtype=dtype_of(i)) for i in inputs],
                model_name="model",
                input_names=[i.name for i in inputs],
                output_names=["output"],
                **options,
            )
        return inlined(proto)

    finish(
        Source(
            forward=forward,
            inputs=inputs,
            exports=[("jax2onnx", export)],
            watch=net.watch,
        ),
        settings,
    )


def dtype_of(one: Input) -> Any:
    import numpy as np

    return np.dtype(one.dtype)


def accept_positions() -> None:
    """Let pooling be called by position while jax2onnx traces, as `max_pool(x, (2, 2))` is.

    What it puts in the place of Flax's pooling functions takes keywords alone.
    """
    try:
        patching = importlib.import_module("jax2onnx.plugins._patching")
        spec = patching.MonkeyPatchSpec
        plain = spec.__init__
    except (ImportError, AttributeError):  # another version: then keywords are needed
        return

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        if self.attr.endswith("pool"):
            self.make_value = by_name(self.make_value)

    spec.__init__ = init


def by_name(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def make_patch(original: Callable[..., Any]) -> Callable[..., Any]:
        patched, signature = make(original), inspect.signature(original)

        def pool(*args: Any, **kwargs: Any) -> Any:
            first, *rest = signature.bind(*args, **kwargs).arguments.items()
            return patched(first[1], **dict(rest))

        return pool

    return make_patch


def load(settings: argparse.Namespace, inputs: list[Input]) -> Net:
    """Make the model and give it its weights."""
    where, colon, name = settings.model.rpartition(":")
    if not colon or not where or not name:
        raise Problem(f"{settings.model}: write MODULE:CALLABLE or FILE.py:CALLABLE")
    kwargs, call = (json_object(getattr(settings, o), f"--{o}") for o in ("kwargs", "call"))
    maker = look_up(where, name, settings.model)
    module: Any = maker
    if not is_module(maker) and not takes_a_batch(maker, kwargs):
        try:
            module = maker(**kwargs, **randomness(maker, kwargs, settings.seed))
        except Exception as error:
            raise Problem(
                f"{settings.model} cannot be made: {reason_of(error)}; see --kwargs"
            ) from None
    first, second = module if isinstance(module, tuple) and len(module) == 2 else (module, None)
    if settings.checkpoint and not Path(settings.checkpoint).exists():
        raise Problem(f"--checkpoint {settings.checkpoint}: no such file")
    for kind, describe in (("linen", from_linen), ("nnx", from_nnx), ("equinox", from_equinox)):
        if is_module(first, kind):
            if not settings.checkpoint and second is None:
                note("no --checkpoint given: the weights are those that the callable makes")
            inputs = in_order(inputs, taken(type(first).__call__, 1))
            return describe(first, second, call, inputs, settings)
    if not callable(first):
        raise Problem(
            f"{settings.model}: returns {type(first).__name__}, neither a module nor a function"
        )
    if settings.checkpoint:
        raise Problem(
            "--checkpoint only works for modules; let the function load its own parameters"
        )
    inputs = in_order(inputs, taken(first, int(second is not None)))
    if second is None:
        return Net(lambda *x: first(*x, **call), inputs)
    return Net(lambda *x: first(second, *x, **call), inputs)


def taken(function: Any, ahead: int) -> list[str] | None:
    """Return the parameters of a call behind those that are no inputs; None where nothing tells."""
    try:
        parameters = parameters_of(function)
    except (TypeError, ValueError):
        return None
    return parameters and parameters[ahead:]


def json_object(text: str, option: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise Problem(f"{option} {text}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise Problem(f"{option} {text}: not a JSON object")
    return content


def is_module(thing: Any, kind: str | None = None) -> bool:
    """Whether something is a module of a framework, which need not be installed."""
    homes = {"linen": ("flax.linen", "Module"), "nnx": ("flax.nnx", "Module")}
    homes["equinox"] = ("equinox", "Module")
    for name in [kind] if kind else homes:
        home = sys.modules.get(homes[name][0])
        if home is not None and isinstance(thing, getattr(home, homes[name][1])):
            return True
    return False


def takes_a_batch(maker: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a callable is the model itself: it needs an argument that only a batch can be."""
    if isinstance(maker, type):
        return False
    try:
        parameters = inspect.signature(maker).parameters.values()
    except (TypeError, ValueError):
        return False
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(
        p.default is p.empty and p.kind in plain and p.name not in (*kwargs, "rngs", "key", "seed")
        for p in parameters
    )


def randomness(maker: Any, kwargs: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return the source of random weights that a callable asks for."""
    import jax

    try:
        maker = maker.__init__ if isinstance(maker, type) else maker
        parameters = inspect.signature(maker).parameters
    except (TypeError, ValueError):
        return {}
    keys: dict[str, Any] = {}
    if "rngs" in parameters and "rngs" not in kwargs:
        keys["rngs"] = importlib.import_module("flax.nnx").Rngs(seed)
    if "key" in parameters and "key" not in kwargs:
        keys["key"] = jax.random.PRNGKey(seed)
    return keys


def evaluation(function: Any, call: dict[str, Any]) -> dict[str, Any]:
    """Return what tells a call that this is not training."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return call
    off = {p: False for p in ("train", "training", "is_training") if p in parameters}
    if "deterministic" in parameters:
        off["deterministic"] = True
    return {**off, **call}


def from_linen(
    module: Any, variables: Any, call: dict[str, Any], inputs: list[Input], settings: Any
) -> Net:
    import jax
    import jax.numpy as jnp

    call = evaluation(type(module).__call__, call)
    if variables is None:
        try:
            key = jax.random.PRNGKey(settings.seed)
            example = (jnp.zeros((1, *i.shape), i.dtype) for i in inputs)
            variables = module.init(key, *example, **call)
        except Exception as error:
            shapes = " and ".join(str((1, *i.shape)) for i in inputs)
            raise Problem(
                f"the model does not take a batch of shape {shapes}: {reason_of(error)}; "
                "--input-shape must be the shape of one sample; --call sets other arguments"
            ) from None
    if settings.checkpoint:
        variables = filled(variables, read(settings.checkpoint), settings.checkpoint)

    def watch(*x: Any) -> dict[str, Any]:
        _, state = module.apply(
            variables, *x, **call, capture_intermediates=True, mutable=["intermediates"]
        )
        seen = {}
        for path, value in flat(state["intermediates"]).items():
            steps = path.split("\t")
            # <module>.__call__.<which call>; the last call is the one that counts.
            if "__call__" in steps[1:]:
                path = ".".join(steps[: steps.index("__call__")])
                seen[path] = fingerprint(value, moved=True)
        return seen

    return Net(lambda *x: module.apply(variables, *x, **call), inputs, watch, "NHWC")


def from_nnx(module: Any, _: Any, call: dict[str, Any], inputs: list[Input], settings: Any) -> Net:
    from flax import nnx

    module.eval()
    call = evaluation(type(module).__call__, call)
    if settings.checkpoint:
        graph, state = nnx.split(module)
        pure = nnx.to_pure_dict(state)
        nnx.replace_by_pure_dict(
            state, filled(pure, read(settings.checkpoint), settings.checkpoint)
        )
        module = nnx.merge(graph, state)
        module.eval()
    paths = {id(m): ".".join(map(str, path)) for path, m in nnx.iter_modules(module) if path}
    parts = {id(m): m for _, m in nnx.iter_modules(module)}
    return Net(
        lambda *x: module(*x, **call),
        inputs,
        lambda *x: spied(
            lambda: module(*x, **call),
            paths,
            list(parts.values()),
            lambda value: fingerprint(value, moved=True),
        ),
        "NHWC",
    )


def from_equinox(
    module: Any, state: Any, call: dict[str, Any], inputs: list[Input], settings: Any
) -> Net:
    import equinox as eqx
    import jax
    import numpy as np

    if settings.checkpoint:
        try:
            like = module if state is None else (module, state)
            loaded = eqx.tree_deserialise_leaves(settings.checkpoint, like)
        except Exception as error:
            raise Problem(
                f"--checkpoint {settings.checkpoint}: does not fit the model ({reason_of(error)}); save "
                "it with equinox.tree_serialise_leaves, or see --kwargs"
            ) from None
        module, state = loaded if state is not None else (loaded, None)
    module = eqx.nn.inference_mode(module)

    def one(*x: Any) -> Any:
        return module(*x, **call) if state is None else module(*x, state, **call)[0]

    paths: dict[int, str] = {}
    parts: list[Any] = []

    def walk(value: Any, path: str) -> None:
        if isinstance(value, eqx.Module):
            if path:
                paths[id(value)] = path
            parts.append(value)
            children = ((n, getattr(value, n, None)) for n in value.__dataclass_fields__)
        elif isinstance(value, (list, tuple)):
            children = ((str(i), v) for i, v in enumerate(value))
        elif isinstance(value, dict):
            children = ((str(k), v) for k, v in value.items())
        else:
            return
        for name, child in children:
            walk(child, f"{path}.{name}" if path else name)

    walk(module, "")

    def watch(*x: Any) -> dict[str, Any]:
        # One by one, since under vmap modules see no values.
        samples = zip(*x, strict=True)
        rows = [spied(lambda row=row: one(*row), paths, parts, np.asarray) for row in samples]
        return {
            path: fingerprint(np.stack([r[path] for r in rows]))
            for path in rows[0]
            if all(path in r and r[path].shape == rows[0][path].shape for r in rows)
        }

    return Net(jax.vmap(one), inputs, watch, "NCHW")


def spied(
    run: Callable[[], Any],
    paths: dict[int, str],
    parts: list[Any],
    keep: Callable[[Any], Any],
) -> dict[str, Any]:
    """Run, and return what modules put out last: calls are looked up on classes, so these change."""
    import jax

    seen: dict[str, Any] = {}
    kinds = {
        c: c.__dict__["__call__"]
        for m in parts
        for c in type(m).__mro__
        if "__call__" in c.__dict__
    }

    def spy(original: Any) -> Any:
        def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
            value = original.__get__(self, type(self))(*args, **kwargs)
            if isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
                path = paths.get(id(self))
                if path:
                    seen[path] = keep(value)
            return value

        return watched

    try:
        for kind, original in kinds.items():
            type.__setattr__(kind, "__call__", spy(original))
        run()
    finally:
        for kind, original in kinds.items():
            type.__setattr__(kind, "__call__", original)
    return seen


def flat(tree: Any, at: str = "") -> dict[str, Any]:
    """Return a tree of dicts and lists as one dict; steps are joined by tabs."""
    if hasattr(tree, "items"):
        pairs = [(str(k), v) for k, v in tree.items()]
    elif isinstance(tree, (list, tuple)):
        pairs = [(str(i), v) for i, v in enumerate(tree)]
    else:
        return {at: tree}
    leaves: dict[str, Any] = {}
    for key, value in pairs:
        leaves |= flat(value, f"{at}\t{key}" if at else key)
    return leaves


def read(path: str) -> dict[str, Any]:
    """Read arrays by path from any of the formats."""
    import numpy as np

    file = Path(path)
    try:
        if file.is_dir():
            with missing("orbax", "pip install orbax-checkpoint"):
                import orbax.checkpoint as ocp
            return flat(ocp.StandardCheckpointer().restore(file.resolve()))
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as archive:
                arrays = {k: archive[k] for k in archive.files}
        elif file.suffix == ".safetensors":
            with missing("safetensors", "pip install safetensors"):
                from safetensors.numpy import load_file
            arrays = load_file(file)
        else:
            from flax.serialization import msgpack_restore

            return flat(msgpack_restore(file.read_bytes()))
    except Problem:
        raise
    except Exception as error:
        raise Problem(f"--checkpoint {path}: cannot be read ({reason_of(error)})") from None
    return {k.replace("/", "\t").replace(".", "\t"): v for k, v in arrays.items()}


def filled(template: Any, content: dict[str, Any], path: str) -> Any:
    """Put arrays in the places of a template's; every one of them, and of its shape."""
    import jax.numpy as jnp

    wanted = flat(template)
    # Train states hold params beside batch_stats; some files hold what is under params alone.
    choices = [content]
    tops = {k.split("\t")[0] for k in content if "\t" in k}
    choices += [
        {k.removeprefix(f"{top}\t"): v for k, v in content.items() if k.startswith(f"{top}\t")}
        for top in tops
    ]
    choices.append({f"params\t{k}": v for k, v in content.items()})
    best = max(choices, key=lambda c: len(wanted.keys() & c.keys()))
    # Not by the name "key" alone, which attention's projections bear too.
    random = {k for k in wanted if {"rngs", "rng"} & set(k.split("\t"))}
    lacking = [k for k in wanted if k not in best and k not in random]
    known = {k.split("\t")[0] for k in wanted}
    extra = [k for k in best if k not in wanted and k.split("\t")[0] in known]
    if lacking or extra:
        parts = [
            f"{len(keys)} {fault} ({', '.join(k.replace(chr(9), '.') for k in keys[:3])})"
            for fault, keys in (("missing from it", lacking), ("unexpected", extra))
            if keys
        ]
        raise Problem(
            f"--checkpoint {path}: does not fit the model: {' and '.join(parts)}; is it another model's?"
        )
    for key in wanted:
        if key in best and jnp.shape(best[key]) != jnp.shape(wanted[key]):
            name = key.replace("\t", ".")
            raise Problem(
                f"--checkpoint {path}: {name} is {jnp.shape(best[key])}, the model's "
                f"{jnp.shape(wanted[key])}; is it another model's, or does it need --kwargs?"
            )

    def put(tree: Any, at: str) -> Any:
        if hasattr(tree, "items"):
            return {k: put(v, f"{at}\t{k}" if at else str(k)) for k, v in tree.items()}
        if isinstance(tree, (list, tuple)):
            return [put(v, f"{at}\t{i}") for i, v in enumerate(tree)]
        return jnp.asarray(best[at], jnp.asarray(tree).dtype) if at in best else tree

    return put(template, "")


if __name__ == "__main__":
    command(arguments(), convert)
