"""What is fuzzed: for each kind of file that the package reads, good ones, and their mutations."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import file_mutations
import h5py
import hdf5_mutations
import hostile_models
import json_mutations
import letter_models
import models
import nibabel
import numpy as np
import onnx
import picture_mutations
import plyfile
import soundfile
from bounded import Bounded
from byte_mutations import damaged, reworded
from hdf5_bytes import restructured
from mutate import mutated
from PIL import Image

from onnx_geed.model import action_key

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Case:
    """A command, and the files that it finds.

    Parameters
    ----------
    line : tuple of str
        Its arguments.
    files : mapping of str to bytes
        By path, as seen from where it runs.
    """

    line: tuple[str, ...]
    files: Files


#: Makes a case; the same of dice that begin alike.
Make = Callable[[random.Random], Case]

_FEW = ("--samples", "3", "--norm-samples", "3", "--provider", "cpu")
_C4 = ("--data", "x.npy", "--group", "C4", *_FEW)

_MODEL_LINES: Mapping[tuple[str, ...], int] = {
    ("layers", "model.onnx", "--format", "json"): 6,
    ("measure", "model.onnx", *_C4, "--out", "r.json"): 3,
    ("compile", "model.onnx", "--group", "C4", "-o", "made.onnx"): 1,
    ("fit", "model.onnx", "--data", "x.npy", "--group", "C4", "--layer", "y", "-o", "fit.npz"): 1,
    ("cache", "write", "model.onnx", *_C4, "-o", "c.geed"): 1,
}


def good_models() -> list[onnx.ModelProto]:
    """Return good models, and hostile ones that are small, for what no good one has."""
    made = [
        models.random_cnn(0, (8, 8)),
        models.c4_equivariant(),
        models.dense_scores(),
        models.two_input(),
        models.tokens(),
        models.if_body(),
        models.local_function(),
        models.qdq_int8(),
        models.fp16(),
        models.softmax_output(),
        models.static_batch(),
        models.nhwc_hidden(),
        models.unsorted(),
        models.shape_bypass(),
        models.conv_classifier(),
        models.initializer_as_input(),
        letter_models.token_network(),
        letter_models.point_net(),
        letter_models.volume_network(),
    ]
    names = ("functions[mutual]", "tensors_in_a[sequence]", "sparse_weights", "external[itself]")
    names += ("scan_over_a_scan_of_constants", "endless_loop_on_data", "growing[Expand]")
    names += ("large_range[10000000000]", "data_that_explode[Gather]", "metadata[action_null]")
    for name in names:
        content = hostile_models.CASES[name]()
        made.append(onnx.ModelProto.FromString(content) if isinstance(content, bytes) else content)
    return made


def _saved(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def _floats(*shape: int) -> Any:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def _data(model: onnx.ModelProto) -> bytes:
    stored = {i.name for i in model.graph.initializer}
    info = next(i for i in model.graph.input if i.name not in stored)
    return _saved(_floats(6, *(d.dim_value or 8 for d in info.type.tensor_type.shape.dim[1:])))


def of_models(server: Bounded, folder: Path) -> Make:
    """ONNX files."""
    good = good_models()
    data = [_data(model) for model in good]
    lines, weights = zip(*_MODEL_LINES.items(), strict=True)

    def make(dice: random.Random) -> Case:
        i = dice.randrange(len(good))
        content = mutated(good[i], dice)
        line = dice.choices(lines, weights)[0]
        return Case(line, {"model.onnx": content, "x.npy": data[i]})

    return make


def _cnn(folder: Path) -> dict[str, bytes]:
    """Write a model, data and labels into a folder, and return them."""
    files = {
        "model.onnx": models.random_cnn(0, (8, 8)).SerializeToString(),
        "x.npy": _saved(_floats(6, 3, 8, 8)),
        "labels.npy": _saved(np.arange(6) % 3),
    }
    _write(folder, files)
    return files


def _write(folder: Path, files: Files) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _run(server: Bounded, folder: Path, *arguments: str) -> None:
    for _ in range(5):
        ended = server.run(arguments, folder)
        if not (ended.status and ended.compiled):  # which one command may have no time for
            break
    assert ended.status == 0, ended


def _below(folder: Path, name: str) -> dict[str, bytes]:
    """Return the files of a folder, which keeps its name."""
    found = sorted(p for p in (folder / name).rglob("*") if p.is_file() and p.name != ".lock")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


def of_shards(server: Bounded, folder: Path) -> Make:
    """Files of an activation cache."""
    _cnn(folder)
    caches = []
    for mode in ("raw", "stats"):
        more = ("--measure", "latent-l2", "--measure", "channel-cos", "--cache-mode", mode)
        line = ("cache", "model.onnx", *_C4[:-6], "--samples", "4", "--norm-samples", "6")
        _run(server, folder, *line, *more, "--provider", "cpu", "-o", f"{mode}.geed")
        caches.append(_below(folder, f"{mode}.geed"))

    def make(dice: random.Random) -> Case:
        files = dict(dice.choice(caches))
        name = dice.choice(sorted(files))
        files[name] = hdf5_mutations.shard(files[name], dice)
        cache = name.partition("/")[0]
        if dice.random() < 0.2:
            files[f"{cache}/{hdf5_mutations.BESIDE}"] = files[name]
        line = dice.choice(
            (
                *(
                    ("measure", cache),
                    ("measure", cache, "--measure", "latent-l2", "--out", "r.json"),
                ),
                *(("cache", "--info", cache), ("cache", "--verify", cache)),
                ("fit", cache, "--layer", "*", "--samples", "2", "--fit-anyway", "-o", "fit.npz"),
            )
        )
        return Case(line, files)

    return make


def of_manifests(server: Bounded, folder: Path) -> Make:
    """What a cache says of itself."""
    shards = of_shards(server, folder)
    assert shards
    caches = [_below(folder, f"{mode}.geed") for mode in ("raw", "stats")]

    def make(dice: random.Random) -> Case:
        files = dict(dice.choice(caches))
        first = next(name for name in files if "shard-" in name)
        cache = first.partition("/")[0]
        text = json_mutations.manifest_of(io.BytesIO(hdf5_mutations.unsealed(files[first])))
        data = json_mutations.written(json_mutations.mutated(json.loads(text), dice), dice) or b" "
        for name in files:
            files[name] = json_mutations.with_manifest(files[name], data)
        line = dice.choice(
            (
                *(
                    ("measure", cache),
                    ("measure", cache, "--measure", "latent-l2", "--samples", "4"),
                ),
                *(("cache", "--info", cache), ("cache", "--verify", cache)),
            )
        )
        return Case(line, files)

    return make


def _images() -> Files:
    """Return small images by path, in folders of classes."""
    files, colours = {}, (_floats(6, 9, 9, 3) * 255).astype("u1")
    kinds = (("a/0.png", "RGB"), ("a/1.png", "P"), ("a/2.png", "LA"), ("b/0.png", "I;16"))
    kinds += (("b/1.jpg", "RGB"), ("b/2.gif", "P"), ("b/3.bmp", "RGB"), ("b/4.tiff", "RGB"))
    kinds += (("b/5.webp", "RGB"), ("b/6.pgm", "L"), ("b/7.png", "RGBA"), ("b/8.tif", "F"))
    for i, (name, mode) in enumerate(kinds):
        image = Image.fromarray(colours[i % 6])
        if mode in ("I;16", "F"):
            image = Image.fromarray(
                _floats(9, 9) if mode == "F" else colours[0, ..., 0] * np.uint16(257)
            )
        buffer = io.BytesIO()
        ending = name.rpartition(".")[2].upper().replace("JPG", "JPEG").replace("TIF", "TIFF")
        (image if mode in ("I;16", "F") else image.convert(mode)).save(
            buffer, {"PGM": "PPM", "TIFFF": "TIFF"}.get(ending, ending)
        )
        files[f"data/{name}"] = buffer.getvalue()
    return files


def _folders() -> Mapping[str, tuple[onnx.ModelProto, Files, tuple[str, ...]]]:
    """Return model, files and arguments by the kind of what is in a folder."""
    sounds = {}
    for name, form, subtype in (
        ("0.wav", "WAV", "PCM_16"),
        ("1.wav", "WAV", "FLOAT"),
        ("2.flac", "FLAC", "PCM_16"),
    ):
        buffer = io.BytesIO()
        soundfile.write(buffer, _floats(24, 2) - 0.5, 8000, format=form, subtype=subtype)
        sounds[f"data/{name}"] = buffer.getvalue()
    points = {"data/0.xyz": "\n".join(" ".join(map(str, row)) for row in _floats(12, 3)).encode()}
    vertex = np.array([tuple(row) for row in _floats(12, 3)], [(axis, "<f4") for axis in "xyz"])
    for name, text in (("1.ply", True), ("2.ply", False)):
        buffer = io.BytesIO()
        plyfile.PlyData([plyfile.PlyElement.describe(vertex, "vertex")], text=text).write(buffer)
        points[f"data/{name}"] = buffer.getvalue()
    volume = nibabel.Nifti1Image(_floats(6, 6, 6), np.eye(4)).to_bytes()
    volumes = {f"data/{i}.nii": volume for i in range(2)}
    volumes["data/2.nii.gz"] = gzip.compress(volume, mtime=0)
    dna = "".join(f">s{i} some\n{'ACGTNACG' * 3}\n" for i in range(4)).encode()
    arrays = {f"data/{c}/{i}.npy": _saved(_floats(3, 8, 8)) for c in "ab" for i in range(2)}
    cnn, line = models.random_cnn(0, (8, 8)), letter_models.circular_classifier(24, 2)
    size = ("--preprocess", "resize=8x8")
    return {
        "images": (cnn, _images(), ("--data", "data", "--group", "C4", *size)),
        "arrays": (cnn, arrays, ("--data", "data", "--group", "C4")),
        "audio": (line, sounds, ("--data", "data", "--group", "reverse", "--input-layout", "NCT")),
        "points": (
            letter_models.point_net(),
            points,
            ("--data", "data", "--group", "SO3~3", "--input-layout", "NPX"),
        ),
        "volumes": (
            letter_models.volume_network(6),
            volumes,
            ("--data", "data", "--group", "C2-z", "--input-layout", "NCDHW"),
        ),
        "dna": (
            letter_models.dna_network(),
            {"data.fasta": dna},
            ("--data", "data.fasta", "--group", "revcomp", "--input-layout", "NTB"),
        ),
    }


def _hdf5(version: str, x: Any, labels: Any) -> bytes:
    """Return arrays as HDF5, of each kind that it has of laying them out."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver=version) as file:
        file["x"], file["labels"], file["group/z"] = x, labels, x
        file.create_dataset("chunked", data=x, chunks=(1, 3, 8, 8), compression="gzip")
        more = {"maxshape": (None, None, 8, 8), "shuffle": True, "fletcher32": True}
        file.create_dataset("indexed", data=x, chunks=(1, 1, 8, 8), **more)
        for i in range(9):
            file["x"].attrs[f"a{i}"] = np.arange(i + 1.0)
            file["group"].attrs[f"text{i}"] = "b" * i
    return buffer.getvalue()


def of_data(server: Bounded, folder: Path) -> Make:
    """Data, labels, feeds, and whatever else is read beside a model."""
    folders = _folders()
    cnn = models.random_cnn(0, (8, 8)).SerializeToString()
    two = models.two_input().SerializeToString()
    x, labels = _floats(6, 3, 8, 8), np.arange(6) % 3
    hdf5, latest = _hdf5("earliest", x, labels), _hdf5("latest", x, labels)
    nifti = np.dtype(nibabel.nifti1.header_dtype)
    common = ("measure", "model.onnx", *_FEW, "--out", "r.json")
    c4 = (*common, "--group", "C4", "--data")

    def in_folder(dice: random.Random) -> Case:
        model, good, arguments = folders[dice.choice([*folders])]
        files = dict(good)
        for _ in range(dice.choice((1, 1, 2))):
            name = dice.choice(sorted(files))
            ending = name[name.index(".") :]
            if ending in (".nii", ".nii.gz"):
                packed = ending == ".nii.gz"
                raw = gzip.decompress(good["data/2.nii.gz"])
                files[name] = file_mutations.nifti(raw, nifti, dice, packed=packed)
            elif ending == ".npy":
                files[name] = file_mutations.npy(x[0], dice)
            else:
                kinds = {**picture_mutations.BY_SUFFIX, **file_mutations.BY_SUFFIX}
                files[name] = kinds.get(ending, damaged)(files[name], dice)
            if dice.random() < 0.1:
                new = dice.choice(
                    (".png", "/x\x1b[2J", ".bin", "é\u202e.npy", "\n.png", ".gz", ".wav")
                )
                files[f"{name}{new}" if "/" not in new else f"data{new}.png"] = files.pop(name)
        files["model.onnx"] = model.SerializeToString()
        return Case((*common, *arguments), files)

    def one(name: str, content: bytes, *more: str) -> Case:
        return Case((*c4, name, *more), {"model.onnx": cnn, name.partition(":")[0]: content})

    def of_npz(dice: random.Random) -> Case:
        content = file_mutations.npz({"x": x, "labels": labels}, dice)
        return one(dice.choice(("d.npz", "d.npz:x", "d.npz:labels")), content)

    def of_hdf5(dice: random.Random) -> Case:
        change = dice.choice((damaged, restructured, restructured, hdf5_mutations.changed))
        key = dice.choice(("", ":/x", ":/x", ":chunked", ":indexed", ":group", ":/group/z"))
        case = one(f"mutated.h5{key}", change(dice.choice((hdf5, latest)), dice))
        return Case(case.line, {**case.files, hdf5_mutations.BESIDE: hdf5})

    def of_idx(dice: random.Random) -> Case:
        packed = dice.random() < 0.6
        content = file_mutations.idx((x[..., :8] * 255), dice, packed=packed)
        return one("d.gz" if packed else "d-idx4-ubyte", content)

    def beside(dice: random.Random) -> Case:
        """Give arrays and texts by the other options."""
        files = {"model.onnx": cnn, "x.npy": _saved(x)}
        option, good = dice.choice(
            (
                ("--labels", labels),
                ("--labels", labels),
                ("--target logits", _floats(6, 5)),
                ("--masks", np.ones((6, 8, 8), "u1")),
                ("--feed extra", _floats(6, 2)),
                ("--mask x", np.ones((6, 8), "u1")),
            )
        )
        if option == "--labels" and dice.random() < 0.5:
            text = dice.choice((b"0\n1\n2\n0\n1\n2\n", b"cat\ndog\ncat\ndog\nemu\nemu\n"))
            files["o.txt"], name = reworded(text, dice), "o.txt"
        else:
            files["o.npy"], name = file_mutations.npy(good, dice), "o.npy"
        flag, _, of = option.partition(" ")
        if flag == "--feed":
            files["model.onnx"] = two
        more = ("--measure", "symmetry-share@logits") if flag == "--target" else ()
        return Case((*c4, "x.npy", flag, f"{of}={name}" if of else name, *more), files)

    def of_preprocess(dice: random.Random) -> Case:
        good = {"resize": [8, 8], "crop": 8, "scale": 0.5, "mean": [0.5] * 3, "std": [0.5] * 3}
        content = json_mutations.written(json_mutations.mutated(good, dice), dice)
        files = {"model.onnx": cnn, "x.npy": _saved(x), "p.json": content}
        return Case((*c4, "x.npy", "--preprocess", "p.json"), files)

    def of_npy(dice: random.Random) -> Case:
        return one("d.npy", file_mutations.npy(x, dice))

    kinds = [in_folder] * 6 + [
        of_npy,
        of_npz,
        of_hdf5,
        of_hdf5,
        of_idx,
        beside,
        beside,
        of_preprocess,
    ]
    return lambda dice: dice.choice(kinds)(dice)


def of_fits(server: Bounded, folder: Path) -> Make:
    """Output actions: fitted ones, and tables that are given in a file or in a model."""
    files = _cnn(folder)
    line = ("fit", "model.onnx", *_C4[:4], "--fit-samples", "3", "--samples", "3", "--fit-anyway")
    fits = []
    for kind in ("permutation", "orthogonal", "linear"):
        _run(server, folder, *line, "--layer", "block0", "--kind", kind, "-o", f"{kind}.npz")
        with np.load(folder / f"{kind}.npz") as archive:
            fits.append(dict(archive))
    channels = fits[0]["permutation" if "permutation" in fits[0] else "channels"].shape[-1]
    elements = fits[0]["elements"]
    rows = np.stack([np.arange(channels)] * len(elements))
    eye = np.stack([np.eye(channels)] * len(elements))
    tables = [
        {"elements": elements, name: values}
        for name, values in (
            ("channels", rows),
            ("channel_matrices", eye),
            ("matrices", eye),
            ("permutation", rows),
        )
    ]
    model = onnx.ModelProto.FromString(files["model.onnx"])

    def make(dice: random.Random) -> Case:
        measure = ("measure", "model.onnx", *_C4, "--out", "r.json")
        if dice.random() < 0.2:
            own = {k: v.tolist() for k, v in dice.choice(tables).items()}
            text = json_mutations.written(json_mutations.mutated(own, dice), dice)
            with_table = onnx.ModelProto()
            with_table.CopyFrom(model)
            entry = with_table.metadata_props.add()
            entry.key, entry.value = action_key("block0"), text.decode("utf-8", "replace")
            return Case(measure, {**files, "model.onnx": with_table.SerializeToString()})
        fit = dice.choice(fits + tables)
        texts = ("onnx-geed/fit/1", "onnx-geed/fit/2", "orthogonal", "block0", "logits")
        content = file_mutations.npz(fit, dice, texts)
        layer = dice.choice(("block0", "block0", "block0", "logits", "*"))
        return Case((*measure, "--output-action", f"{layer}=a.npz"), {**files, "a.npz": content})

    return make


def of_parts(server: Bounded, folder: Path) -> Make:
    """Parts of a run, given to ``merge``."""
    _cnn(folder)
    runs = []
    for j, more in enumerate(
        (
            ("--group", "C4", "--references", "--labels", "labels.npy"),
            ("--group", "rotate:-20..20/3", "--measure", "latent-l2", "--measure", "flip-rate"),
        )
    ):
        names = [f"part-{j}-{i}.json" for i in (1, 2)]
        for i, name in enumerate(names, 1):
            line = ("measure", "model.onnx", "--data", "x.npy", "--samples", "4", "--norm-samples")
            _run(server, folder, *line, "6", *more, "--shard", f"{i}/2", "--out", name)
        runs.append([(folder / name).read_bytes() for name in names])

    def make(dice: random.Random) -> Case:
        parts = list(dice.choice(runs))
        i = dice.randrange(2)
        content = json_mutations.mutated(json.loads(parts[i]), dice)
        parts[i] = json_mutations.written(content, dice)
        files = {f"{k}.json": part for k, part in enumerate(parts)}
        gate = dice.choice(((), (), ("--fail-above", "latent-l2=0.5", "--junit", "j.xml")))
        return Case(("merge", *files, "-o", "r.json", *gate), files)

    return make


_SUITE: Mapping[str, Any] = {
    "title": "t",
    "groups": ["C4"],
    "measures": ["latent-l2"],
    "options": {"samples": 3, "norm-samples": 3, "provider": "cpu"},
    "models": [{"name": "net", "path": "model.onnx", "options": {"batch-size": 8}}],
    "data": [{"name": "x", "path": "x.npy", "options": {"labels": "labels.npy"}}],
}


def _toml(value: Any, top: bool = True) -> str:
    """Return what JSON holds as TOML, which has no null."""
    if isinstance(value, Mapping):
        pairs = [f"{json.dumps(k)} = {_toml(v, False)}" for k, v in value.items()]
        return "\n".join(pairs) if top else f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(_toml(v, False) for v in value)}]"
    if isinstance(value, float) and not np.isfinite(value):
        return f"{value}"
    return '""' if value is None else json.dumps(value)


def of_suites(server: Bounded, folder: Path) -> Make:
    """Suites as files, and results of their runs that are kept."""
    files = _cnn(folder)
    suite = _toml(_SUITE).encode()
    _write(folder, {"suite.toml": suite})
    _run(server, folder, "benchmark", "suite.toml", "-o", "out")
    cells = {name: c for name, c in _below(folder, "out").items() if name.startswith("out/cells/")}
    line = ("benchmark", "suite.toml", "-o", "out")

    def make(dice: random.Random) -> Case:
        if dice.random() < 0.25:
            name = dice.choice(sorted(cells))
            content = json_mutations.mutated(json.loads(cells[name]), dice)
            kept = {**cells, name: json_mutations.written(content, dice)}
            return Case(line, {**files, **kept, "suite.toml": suite})
        if dice.random() < 0.25:
            return Case(line, {**files, "suite.toml": reworded(suite, dice)})
        text = _toml(json_mutations.mutated(_SUITE, dice))
        return Case(line, {**files, "suite.toml": text.encode("utf-8", "replace")})

    return make


def of_results(server: Bounded, folder: Path) -> Make:
    """Results, given to ``report``, ``compare`` and ``aggregate``."""
    _cnn(folder)
    good = []
    for name, group, more in (
        ("group", "C8", ("--references", "--labels", "labels.npy")),
        ("family", "rotate:-20..20/3", ("--measure", "latent-l2", "--measure", "flip-rate")),
        (
            "fit",
            "C4",
            ("--output-action", "block0=fit:orthogonal", "--fit-samples", "3", "--fit-anyway"),
        ),
    ):
        line = ("measure", "model.onnx", "--data", "x.npy", "--samples", "3", "--group", group)
        _run(server, folder, *line, *more, "--out", f"{name}.json")
        good.append((folder / f"{name}.json").read_bytes())

    def make(dice: random.Random) -> Case:
        other = dice.choice(good)
        content = json_mutations.written(json_mutations.mutated(json.loads(other), dice), dice)
        line = dice.choice(
            (
                *(
                    ("report", "a.json", "-o", "p.html"),
                    ("report", "a.json", "b.json", "-o", "p.html"),
                ),
                *(("aggregate", "a.json", "b.json"), ("compare", "a.json", "b.json")),
                ("aggregate", "b.json", "a.json", "--format", "json", "--out", "r.json"),
                ("compare", "b.json", "a.json", "--force", "--out", "r.json"),
            )
        )
        return Case(line, {"a.json": content, "b.json": other})

    return make


#: By name, as the command line has them.
TARGETS: Mapping[str, Callable[[Bounded, Path], Make]] = {
    "models": of_models,
    "shards": of_shards,
    "manifests": of_manifests,
    "readers": of_data,  # in the fuzzer's own process: see reading.py
    "data": of_data,
    "fits": of_fits,
    "parts": of_parts,
    "suites": of_suites,
    "results": of_results,
}
