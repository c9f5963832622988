"""Mutations of JSON that know its structure, and what a command may answer to them.

By the hour: ``python tests/fuzz/fuzz.py results``, and ``manifests``, ``parts`` and ``suites``.
"""

import contextlib
import copy
import json
import shutil
import warnings

import h5py
from click.testing import CliRunner

from onnx_geed.cache import shard_file
from onnx_geed.cli import cli

#: Longest line that may be printed for a file that is refused.
LONGEST = 400

ODD = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 1.5, -0.0, 1e-320, 1e149, 1e308, 10**30, 10**400),
    *(float("nan"), float("inf"), "", "x", "0", "\x1b[2J", "\u202e\x00\r\n", "\ud800", "=1+1"),
    *("e", "C4", "trivial", "grid", "NCHW", "latent-cos", "a" * 5000, "<script>", "$\\frac{1}$"),
    *([], {}, [[]], [1, "a"], {"a": 1}, [0.5] * 3, [1, 2], ["e", "r1"]),
)


#: Those that keep the type get past the first check.
KINDS = (
    *("delete", "retype", "number", "number", "resize", "resize", "swap", "rename", "deep"),
    *("alike", "alike", "alike", "alike", "hostile", "hostile", "hostile"),
)


def places(value, path=()):
    """Every place in some JSON, as a path of keys and positions."""
    yield path
    steps = value.items() if isinstance(value, dict) else enumerate(value[:40])
    for step, inner in steps if isinstance(value, dict | list) else ():
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, step))
        else:
            yield (*path, step)


def at(value, path):
    for step in path:
        value = value[step]
    return value


def mutated(content, rng):
    """One change or a few of a copy of some JSON."""
    content = copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        # By depth first, so that long lists of numbers do not take all the turns.
        by_depth = {}
        for path in places(content):
            by_depth.setdefault((len(path), str(path[:2])), []).append(path)
        path = rng.choice(by_depth[rng.choice(sorted(by_depth))])
        if path:
            change(content, path, rng)
    return content


def change(content, path, rng):
    holder, step = at(content, path[:-1]), path[-1]
    value = holder[step]
    kind = rng.choice(KINDS)
    alike = [x for p in places(content) if type(x := at(content, p)) is type(value) and x != value]
    if kind == "delete":
        del holder[step]
    elif kind == "alike" and alike:
        holder[step] = copy.deepcopy(rng.choice(alike))
    elif kind == "hostile":
        odd = [x for x in ODD if type(x) is type(value)]
        holder[step] = copy.deepcopy(rng.choice(odd or ODD))
    elif kind == "number" and isinstance(value, int | float):
        holder[step] = rng.choice((-value, value + 1, value * 2, value / 3, value * 1e9, 1 - value))
    elif kind == "resize" and isinstance(value, list):
        holder[step] = rng.choice((value[:-1], value + value[-1:], value * 2, value[::-1], []))
    elif kind == "resize" and isinstance(value, dict):
        holder[step] = dict(list(value.items())[::-1][: rng.randrange(len(value) + 1)])
    elif kind == "resize" and isinstance(value, str):
        holder[step] = rng.choice((value[:-1], value + value, value + "\x1b[31m", value.upper()))
    elif kind == "swap":
        other = rng.choice(list(places(content)))
        holder[step] = copy.deepcopy(at(content, other))
    elif kind == "rename" and isinstance(holder, dict):
        name = rng.choice((step + "x", rng.choice(list(holder)), step.upper()))
        holder[name] = holder.pop(step)
    elif kind == "deep":
        for _ in range(rng.choice((1, 3, 60))):
            value = [value]
        holder[step] = value
    else:
        holder[step] = copy.deepcopy(rng.choice(ODD))


def written(content, rng):
    """The bytes of some JSON, which a tenth of the time are not quite JSON."""
    text = json.dumps(content)
    kind = rng.choice((*["whole"] * 27, "cut", "flip", "deep", "twice", "bom", "latin", "long"))
    data = text.encode("utf-8", "surrogatepass")
    at_byte = rng.randrange(len(data) + 1)
    if kind == "cut":
        return data[:at_byte]
    if kind == "flip":
        return data[:at_byte] + bytes([rng.randrange(256)]) + data[at_byte + 1 :]
    if kind == "deep":
        return text.replace("null", "[" * 100_000 + "]" * 100_000, 1).encode()
    if kind == "twice":
        return text.replace("{", '{"schema": 1, "name": 2, ', 1).encode()
    if kind == "bom":
        return b"\xef\xbb\xbf" + data
    if kind == "latin":
        return text.replace("e", "\xe9", 3).encode("latin-1", "replace")
    if kind == "long":
        return text.replace("0.", "0." + "9" * 5000, 2).encode()
    return data


def fault_of(result, out=None):
    """What is wrong with how a command ended, in words; empty where nothing is."""
    said = result.stderr
    lines = said.splitlines()
    if "internal error" in said or not isinstance(result.exception, SystemExit | None):
        return f"{result.exception!r}: {said}"
    if result.exit_code not in (0, 2):
        return f"ended with {result.exit_code}: {said}"
    # One line, but for notes; --verify tells every damage.
    told = [line for line in lines if not line.startswith("note: ")]
    listed = len(told) == 1 or all(" is damaged in " in line for line in told)
    if result.exit_code == 2 and (not listed or max(map(len, lines)) > LONGEST):
        return f"{len(lines)} lines of {len(said)} characters: {said[:2000]}"
    for text in (said, result.stdout):
        raw = [c for c in text if not c.isprintable() and c != "\n"]
        if raw and not text.startswith(("{", "[")):
            return f"{raw[:5]} shown raw"
    if result.exit_code == 2 and out is not None and out.exists():
        return f"{out.name} was left behind"
    return ""


def run_results(seeds, rng, folder):
    """Give a mutated result to a command on results; return what it was, and its fault."""
    path, out = folder / "mutated.json", folder / "page.html"
    out.unlink(missing_ok=True)
    content = rng.choice(seeds)
    path.write_bytes(written(mutated(content, rng), rng))
    other = folder / "other.json"
    other.write_text(json.dumps(content))
    arguments = rng.choice(
        (
            ["report", path, "-o", out],
            ["report", path, other, "-o", out],
            ["aggregate", path, other],
            ["aggregate", other, path, "--format", "json"],
            ["compare", path, other],
            ["compare", other, path, "--force"],
        )
    )
    return arguments, fault_of(invoke(arguments), out)


def run_manifests(seeds, rng, folder):
    """Write a mutated manifest into all files of a cache, and measure it."""
    cache = rng.choice(seeds)
    copied = folder / "mutated.geed"
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(cache, copied)
    text = manifest_of(next(copied.glob("shard-*.h5")))
    data = written(mutated(json.loads(text), rng), rng) or b" "
    for path in copied.glob("*.h5"):
        path.write_bytes(with_manifest(path.read_bytes(), data))
    arguments = rng.choice(
        (
            ["measure", copied],
            ["measure", copied, "--measure", "latent-l2", "--samples", "4"],
            ["cache", "--info", copied],
            ["cache", "--verify", copied],
        )
    )
    return arguments, fault_of(invoke(arguments))


def run_suites(seeds, rng, folder):
    """Give a suite that has run a mutated cell; it is kept, or measured again."""
    suite = rng.choice(seeds)
    out = folder / "suite"
    shutil.copytree(suite / "out", out)
    path = rng.choice(sorted((out / "cells").glob("*.json")))
    path.write_bytes(written(mutated(json.loads(path.read_text()), rng), rng))
    arguments = ["benchmark", suite / "suite.toml", "-o", out]
    result = invoke(arguments)
    # What it says of cells goes to stderr too; that they do not add up is an answer.
    told = [line for line in result.stderr.splitlines() if line.startswith("onnx-geed: ")]
    ended = isinstance(result.exception, SystemExit | None) and "internal" not in result.stderr
    right = (
        ended and len(told) == (result.exit_code == 2) and max(map(len, told), default=0) < LONGEST
    )
    return arguments, "" if right else f"{result.exception!r}: {result.stderr}"


def manifest_of(path):
    with h5py.File(path, "r") as file:
        return file["manifest"][()].tobytes().decode()


def with_manifest(content, data):
    """Return a file of a cache with another manifest, its sums and seal as the package's."""
    made = shard_file.Image()
    made.write(content)
    with h5py.File(made, "r+") as file:
        attributes = {k: v for k, v in file.attrs.items() if k != "sha256"}
        del file["manifest"]
        stored = file.create_dataset(
            "manifest", data=list(data), dtype="u1", chunks=(max(len(data), 1),), fletcher32=True
        )
        stored.attrs["tensor"] = ""
        text = data.decode("utf-8", "surrogateescape")
        with contextlib.suppress(UnicodeEncodeError):
            file.attrs["sha256"] = shard_file._attribute_hash(attributes, text)
        file.flush()
        chunks = shard_file.large_chunks(file)
    trailer = shard_file.seal(made.getbuffer().toreadonly(), chunks)
    return made.getvalue() + trailer


def invoke(arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Of one library in another, of which nothing here makes a finding.
        warnings.simplefilter("ignore", DeprecationWarning)
        return CliRunner().invoke(cli, [str(a) for a in arguments])
