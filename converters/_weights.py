"""Weights of a checkpoint into a module: wrappers unpacked, every key accounted for."""

from __future__ import annotations

import argparse
import fnmatch
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

if __package__:
    from ._options import Problem, note, reason_of
else:
    from _options import Problem, note, reason_of

# As torchvision's, Lightning's, timm's, DINO's, MoCo's and SimCLR's training scripts save them.
_KEYS = (
    "state_dict model model_state_dict model_state teacher student state_dict_ema net network "
    "encoder backbone module weights params"
).split()
_PREFIXES = (
    "module. backbone. encoder. model. net. network. _orig_mod. encoder_q. module.encoder_q. "
    "base_encoder. teacher. student. online_encoder. trunk. visual."
).split()


def load_weights(net: Any, settings: argparse.Namespace) -> None:
    """Load `--checkpoint` into a module; a key too few or too many is an error unless allowed."""
    import torch

    path = Path(settings.checkpoint)
    if not path.is_file():
        raise Problem(f"--checkpoint {path}: no such file")
    own = net.state_dict()
    if path.suffix == ".npz" and hasattr(net, "load_pretrained") and not _plain(path, own):
        _load_by_timm(net, own, path, settings)
        return
    content = _read(path)
    state = _unpack(content, own, settings)
    state = _translated(net, state, own)
    if quantised := [k for k, v in state.items() if getattr(v, "is_quantized", False)]:
        raise Problem(
            f"--checkpoint {path}: has quantised weights ({quantised[0]}, ...), but the model takes "
            "floating point; give the checkpoint from before it was quantised"
        )
    wrong = [
        f"{k} is {tuple(v.shape)}, the model's {tuple(own[k].shape)}"
        for k, v in state.items()
        if k in own and v.shape != own[k].shape
    ]
    beside = ("num_batches_tracked", "_extra_state")  # nothing that a run in eval mode reads
    lacking = [k for k in own if k not in state and not k.endswith(beside)]
    extra = [k for k in state if k not in own]
    lacking = _not_allowed(lacking, settings.allow_missing)
    extra = _not_allowed(extra, settings.allow_unexpected)
    if wrong:
        raise Problem(
            f"--checkpoint {path}: {len(wrong)} tensors have another shape than in the model: {'; '.join(wrong[:2])}; "
            "is it another model's, or does it need --kwargs?"
        )
    complaints = [
        f"{len(keys)} {fault} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for fault, keys in (("missing from it", lacking), ("unexpected", extra))
        if keys
    ]
    if complaints:
        options = " ".join(
            f"--allow-{o}" for o, k in (("missing", lacking), ("unexpected", extra)) if k
        )
        raise Problem(
            f"--checkpoint {path}: keys do not fit the model: {' and '.join(complaints)}; is it "
            f"another model's? {options} accepts them, --prefix or --checkpoint-key picks others"
        )
    fitting = {k: v for k, v in state.items() if k in own}
    if not fitting:
        raise Problem(f"--checkpoint {path}: none of its keys belongs to the model")
    net.load_state_dict({k: torch.as_tensor(v) for k, v in fitting.items()}, strict=False)


def _plain(path: Path, own: Mapping[str, Any]) -> bool:
    return any(key in own for key, _ in _arrays(path))


def _arrays(path: Path) -> Iterator[tuple[str, Any]]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            for key in archive.files:
                yield key, archive[key]
    except Exception as error:
        raise Problem(f"--checkpoint {path}: not a readable .npz ({reason_of(error)})") from None


def _load_by_timm(
    net: Any, own: Mapping[str, Any], path: Path, settings: argparse.Namespace
) -> None:
    """Load the format of BiT's and ViT's authors; timm passes over a head of another size."""
    import torch

    kept = {k: v.clone() for k, v in own.items()}
    with torch.no_grad():
        for value in own.values():
            if value.is_floating_point():
                value.fill_(float("nan"))
    try:
        net.load_pretrained(str(path))
    except Exception as error:
        raise Problem(
            f"--checkpoint {path}: does not fit the model ({reason_of(error)}); is it another model's?"
        ) from None
    after = net.state_dict()
    lacking = [k for k, v in after.items() if v.is_floating_point() and bool(torch.isnan(v).all())]
    if left := _not_allowed(lacking, settings.allow_missing):
        raise Problem(
            f"--checkpoint {path}: {len(left)} tensors of the model are not in it, or have another "
            f"shape ({', '.join(left[:3])}); --allow-missing accepts that, --kwargs sets num_classes"
        )
    net.load_state_dict({k: kept[k] for k in lacking}, strict=False)


def _read(path: Path) -> Any:
    import torch

    if path.suffix == ".npz":
        return {k: torch.as_tensor(v) for k, v in _arrays(path)}
    if path.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ModuleNotFoundError:
            raise Problem(
                f"--checkpoint {path}: this needs safetensors; "
                f"{sys.executable} -m pip install safetensors"
            ) from None
        try:
            return load_file(path)
        except Exception as error:
            raise Problem(
                f"--checkpoint {path}: not a safetensors file ({reason_of(error)})"
            ) from None
    # What training scripts put beside the weights, none of which runs code.
    harmless: list[Any] = [argparse.Namespace]
    with torch.serialization.safe_globals(harmless + _numpy_scalars()):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            named = re.search(r"(?:GLOBAL|Unsupported \w+:?) ([\w.]+\.[\w.]+)", str(error))
            if "weights_only" in str(error).lower() or "unsupported" in str(error).lower():
                which = f" ({named[1]})" if named else ""
                raise Problem(
                    f"--checkpoint {path}: has pickled objects{which}, which could run code; save only "
                    "net.state_dict() alone: torch.save(net.state_dict(), 'net.pt')"
                ) from None
            raise Problem(
                f"--checkpoint {path}: not a checkpoint ({reason_of(error, 160)})"
            ) from None


def _numpy_scalars() -> list[Any]:
    import numpy as np
    from numpy.dtypes import Float32DType, Float64DType, Int64DType

    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    names = ["numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"]
    return [np.dtype, Float32DType, Float64DType, Int64DType, *((scalar, name) for name in names)]


def _unpack(content: Any, own: Mapping[str, Any], settings: argparse.Namespace) -> dict[str, Any]:
    """Choose the entry and the prefix under which most of the model's keys are found."""
    path = settings.checkpoint
    if not isinstance(content, Mapping):
        raise Problem(f"--checkpoint {path}: contains a {type(content).__name__}, not a state dict")
    if settings.checkpoint_key:
        for part in settings.checkpoint_key.split("."):
            if not isinstance(content, Mapping) or part not in content:
                keys = ", ".join(map(str, content)) if isinstance(content, Mapping) else "nothing"
                raise Problem(
                    f"--checkpoint-key {settings.checkpoint_key}: the checkpoint has {keys[:200]}"
                )
            content = content[part]
    choices = []
    for key, weights in _state_dicts(content, ""):
        if settings.prefix is not None:
            prefixes = [settings.prefix]
        else:
            prefixes = _prefixes(weights)
        for prefix in prefixes:
            under = {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}
            fits = sum(k in own and under[k].shape == own[k].shape for k in under)
            choices.append((fits, key, prefix, under, weights))
    if not choices:
        keys = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content)
        raise Problem(f"--checkpoint {path}: no tensors found; the file has {str(keys)[:200]}")
    # The first of equally good ones: DINO's teacher comes before its student in _KEYS.
    fits, key, prefix, under, weights = max(choices, key=lambda c: c[0])
    if key or prefix:
        note(
            f"{path}: weights are taken from {' '.join(filter(None, [key and f'entry {key!r}', prefix and f'keys {prefix}*']))}"
        )
    rest = [k for k in weights if not k.startswith(prefix)]
    if prefix and rest:
        note(f"{path}: {len(rest)} tensors outside {prefix}* are ignored: {rest[0]}, ...")
    return under


def _state_dicts(content: Any, at: str, depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    import torch

    if not isinstance(content, Mapping):
        return
    tensors = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if tensors:
        yield at, tensors
    if depth < 2:
        known = [k for k in _KEYS if k in content]
        for key in (*known, *(k for k in content if k not in known)):
            yield from _state_dicts(content[key], f"{at}.{key}".strip("."), depth + 1)


def _prefixes(weights: Mapping[str, Any]) -> list[str]:
    prefixes = [""]
    for first in prefixes:  # grows while it is walked through: module.backbone.
        here = {k[len(first) :] for k in weights if k.startswith(first)}
        for prefix in _PREFIXES:
            if len(prefixes) < 64 and first + prefix not in prefixes:
                if any(k.startswith(prefix) for k in here):
                    prefixes.append(first + prefix)
    return prefixes


def _translated(net: Any, state: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Bring names of older or original code to the model's, as torchvision and timm do."""
    if not [k for k in own if k not in state and not k.endswith("num_batches_tracked")]:
        return state
    pattern = re.compile(
        r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var))$"
    )
    renamed = {(f"{m[1]}{m[2]}" if (m := pattern.match(k)) else k): v for k, v in state.items()}
    if renamed.keys() != state.keys():
        return renamed
    home = type(net).__module__
    if home == "timm.models.levit" and (renamed := _in_order(state, own)):
        note("the checkpoint has the names of LeViT's authors; tensors are matched by their order")
        return renamed
    filters = getattr(sys.modules.get(home), "checkpoint_filter_fn", None)
    if filters is None:
        return state
    try:
        translated = filters(dict(state), net)
    except Exception as error:
        note(f"timm does not recognise the checkpoint's names ({reason_of(error, 100)})")
        return state
    better = sum(k in own for k in translated) > sum(k in own for k in state)
    return dict(translated) if better else state


def _in_order(state: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any] | None:
    """Pair tensors by their place, where last names and shapes are the same all along."""
    values = [(k, v) for k, v in state.items() if not k.endswith("attention_bias_idxs")]
    if len(values) != len(own) or any(k in own for k, _ in values[:1]):
        return None
    for (theirs, value), ours in zip(values, own, strict=True):
        last = theirs.rpartition(".")[2], ours.rpartition(".")[2]
        if last[0] != last[1] or value.shape != own[ours].shape:
            return None
    return {ours: value for ours, (_, value) in zip(own, values, strict=True)}


def _not_allowed(keys: list[str], allowed: list[str]) -> list[str]:
    return [k for k in keys if not any(fnmatch.fnmatchcase(k, glob) for glob in allowed)]
