import os
import random
import shutil
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import h5py
import numpy as np
import pytest

from onnx_geed import GeedError, measure
from onnx_geed.cache import (
    contents,
    info as inspection,
    measure as offline,
    shard_file as shards,
    store as cache,
    write as caching,
)
from onnx_geed.cache.write_and_measure import measure_through_cache
from onnx_geed.report import info_table
from onnx_geed.run import KernelEngine, moving
from onnx_geed.run.room import Room

DEMO = Path(str(files("onnx_geed.demo")))
MODEL, DIGITS = DEMO / "digits_cnn.onnx", str(DEMO / "digits.npz")
FEW = {"samples": 20, "norm_samples": 30, "batch_size": 16}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache") / "acts.geed"
    caching.write_cache(MODEL, DIGITS, "C8", folder, **FEW)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "acts.geed")
    return tmp_path / "acts.geed"


@pytest.fixture(scope="module")
def live():
    return measure(MODEL, DIGITS, "C8", **FEW)["measurements"]


def inodes(folder):
    return {p.name: p.stat().st_ino for p in folder.glob("shard-*.h5")}


def test_a_cache_measures_bit_for_bit_what_the_live_run_does(finished, live):
    assert offline.measure_cache(finished)["measurements"] == live


def test_statistics_measure_bit_for_bit_too_and_are_smaller(finished, live, tmp_path):
    folder = tmp_path / "stats.geed"
    info = caching.write_cache(MODEL, DIGITS, "C8", folder, mode="stats", **FEW)
    assert offline.measure_cache(folder)["measurements"] == live
    assert info["bytes"] < inspection.cache_info(finished)["bytes"] / 20


def test_what_moves_maps_keeps_to_the_memory_that_is_asked_for(finished, live, monkeypatch):
    kept = offline.measure_cache(finished, memory="512MiB")
    assert kept["measurements"] == live
    monkeypatch.setattr(moving, "room_in", lambda memory: Room(1 << 30, int(memory)))
    with pytest.raises(GeedError, match=r"the tables by which C8 moves tensors, .* raise it to"):
        offline.measure_cache(finished, memory=10_000)


def test_float16_is_near_and_named(live, tmp_path):
    folder = tmp_path / "half.geed"
    caching.write_cache(MODEL, DIGITS, "C8", folder, dtype="float16", **FEW)
    half = offline.measure_cache(folder)
    assert "activations were stored as float16" in half["notes"]
    for ours, theirs in zip(half["measurements"], live, strict=True):
        assert ours["value"] == pytest.approx(theirs["value"], rel=2e-3, abs=1e-4)
        assert ours["value"] != theirs["value"]


def test_subsets_and_other_measures_are_tried_without_the_model(finished, live):
    few = offline.measure_cache(finished, samples=7, measures=["channel-cos@block3"])
    (record,) = few["measurements"]
    whole = next(m for m in live if m["layer"] == "block3")
    assert record["deviations"] == whole["deviations"][:7]
    (pooled,) = offline.measure_cache(finished, measures=["latent-l2@block5"])["measurements"]
    assert pooled["value"] > 0
    assert pooled["norm_samples"] == 30


def test_a_run_killed_at_random_moments_ends_as_an_unbroken_one(tmp_path):
    folder = tmp_path / "killed.geed"
    some = {"samples": 48, "norm_samples": 60, "batch_size": 8}
    script = (
        "from onnx_geed.cache import write as caching\n"
        "from onnx_geed.run import KernelEngine\n"
        "import time\n"
        "plain = KernelEngine.activations\n"
        "def slow(*a):\n"
        "    print('a job begins', flush=True)\n"
        "    time.sleep(0.04)\n"
        "    return plain(*a)\n"
        "KernelEngine.activations = slow\n"
        f"caching.write_cache({str(MODEL)!r}, {DIGITS!r}, 'C8', {str(folder)!r}, **{some!r})\n"
    )
    chance = random.Random(0)
    before: dict[str, int] = {}
    grew = 0
    for _ in range(30):
        with subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as run:
            assert run.stdout is not None
            for _ in range(chance.randint(1, 20)):  # jobs, and not seconds: machines differ
                run.stdout.readline()
            time.sleep(chance.uniform(0, 0.05))
            run.send_signal(signal.SIGKILL)
            finished_first = run.wait() == 0
        now = inodes(folder)
        assert {k: now.get(k) for k in before} == before
        grew += len(now) > len(before)
        before = now
        if finished_first or len(now) == 6:
            break
    assert grew > 1
    caching.write_cache(MODEL, DIGITS, "C8", folder, **some)
    assert {k: inodes(folder)[k] for k in before} == before
    unbroken = measure(MODEL, DIGITS, "C8", **some)["measurements"]
    assert offline.measure_cache(folder)["measurements"] == unbroken
    assert not list(folder.glob(".unfinished-*"))


def test_only_what_is_missing_is_computed(copy, monkeypatch):
    lost = sorted(copy.glob("shard-*.h5"))[1]
    lost.unlink()
    ran = []
    plain = KernelEngine.activations
    monkeypatch.setattr(
        KernelEngine,
        "activations",
        lambda engine, job: ran.extend(job.positions) or plain(engine, job),
    )
    lines = []
    caching.write_cache(MODEL, DIGITS, "C8", copy, notify=lines.append, **FEW)
    first = int(lost.stem.removeprefix("shard-"))
    assert ran == list(range(first, first + 8))
    assert "8 of 20 orbits to go" in lines[0]


def test_a_run_says_what_it_is_going_to_write_and_not_that_it_has(tmp_path, monkeypatch):
    def fail(engine, job):
        raise GeedError("no activations today")

    monkeypatch.setattr(KernelEngine, "activations", fail)
    lines = []
    with pytest.raises(GeedError, match="no activations today"):
        caching.write_cache(MODEL, DIGITS, "C8", tmp_path / "a.geed", notify=lines.append, **FEW)
    (line,) = lines
    assert ": writing 20 orbits, " in line


@pytest.mark.parametrize("part", ["chunk", "samples", "attribute", "reference"])
def test_a_flipped_byte_is_named_by_shard_and_layer(copy, part):
    path = sorted(copy.glob("shard-*.h5"))[1]
    with h5py.File(path) as file:
        names = {"chunk": "orbits/0", "samples": "samples", "reference": "reference/5"}
        if part == "attribute":
            at = path.read_bytes().index(b"fingerprint.group")
            where = "its structure"
        else:
            dataset = file[names[part]]
            at = dataset.id.get_chunk_info(0).byte_offset + 5
            where = dataset.attrs.get("tensor", "/samples")
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)
    with pytest.raises(GeedError, match=path.name) as caught:
        offline.measure_cache(copy)
    # Small chunks are covered by the seal of the file's structure.
    named = str(caught.value)
    assert where in named or (part in ("samples", "reference") and "its structure" in named)
    if part == "chunk":
        (line,) = inspection.verify_cache(copy)
        assert path.name in line
        assert where in line


def test_no_flip_anywhere_changes_a_number_in_silence(copy, live):
    chance = random.Random(1)
    path = sorted(copy.glob("shard-*.h5"))[0]
    good = path.read_bytes()
    with h5py.File(path) as file:
        head = min(file[f"orbits/{i}"].id.get_chunk_info(0).byte_offset for i in range(5))
    named = 0
    for k in range(60):
        content = bytearray(good)
        # Half of the flips go to HDF5's own structures, which no checksum of ours covers.
        content[chance.randrange(head if k % 2 else len(good))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        try:
            assert offline.measure_cache(copy)["measurements"] == live
        except GeedError as error:
            named += path.name in str(error)
    assert named == 60


def test_a_truncated_or_missing_shard_is_an_error(copy):
    seen = sorted(copy.glob("shard-*.h5"))
    os.truncate(seen[1], seen[1].stat().st_size // 2)
    with pytest.raises(GeedError, match=seen[1].name):
        offline.measure_cache(copy)
    seen[1].unlink()
    with pytest.raises(GeedError, match=f"incomplete.*{seen[1].name}"):
        offline.measure_cache(copy)
    assert inspection.cache_info(copy)["missing"] == [seen[1].name]


def test_what_differs_is_named(copy, tmp_path):
    other = tmp_path / "x.npz"
    with np.load(DIGITS) as archive:
        images = archive["images"].copy()
    images[:, 0, 0] ^= 1
    np.savez(other, images=images)
    untrained = DEMO / "digits_cnn_untrained.onnx"
    for name, arguments in {
        "model": (untrained, DIGITS, "C8", FEW),
        "data": (MODEL, str(other), "C8", FEW),
        "group": (MODEL, DIGITS, "D4", FEW),
        "seed": (MODEL, DIGITS, "C8", {**FEW, "seed": 1}),
        "batch size": (MODEL, DIGITS, "C8", {**FEW, "batch_size": 8}),
        "action options": (MODEL, DIGITS, "C8", {**FEW, "interpolation": "nearest"}),
        "layers": (MODEL, DIGITS, "C8", {**FEW, "measures": ["latent-l2"]}),
    }.items():
        before = inodes(copy)
        with pytest.raises(GeedError, match=f"differs from this run in .*{name}"):
            caching.write_cache(*arguments[:3], copy, **arguments[3])
        assert inodes(copy) == before


@pytest.mark.parametrize("left", ["reference.h5", "labels.h5", "inputs.h5"])
def test_what_another_run_left_is_found_before_anything_is_written(copy, left):
    """Files beside the shards say of which run they are, as shards do."""
    if left != "reference.h5":
        (copy / "reference.h5").rename(copy / left)
    for path in copy.iterdir():
        if path.name != left:
            path.unlink()
    with pytest.raises(GeedError, match="differs from this run in batch size"):
        caching.write_cache(MODEL, DIGITS, "C8", copy, **{**FEW, "batch_size": 8})
    assert {path.name for path in copy.glob("*.*5")} == {left}


def test_a_run_goes_on_from_the_reference_alone(copy, live):
    before = (copy / "reference.h5").stat().st_ino
    for path in (*copy.glob("shard-*.h5"), copy / "cache.h5"):
        path.unlink()
    caching.write_cache(MODEL, DIGITS, "C8", copy, **FEW)
    assert (copy / "reference.h5").stat().st_ino == before
    assert offline.measure_cache(copy)["measurements"] == live


def test_a_newer_format_is_refused(copy):
    for path in copy.glob("*.h5"):
        with h5py.File(path, "a") as file:
            file.attrs["version"] = shards.VERSION + 1
    with pytest.raises(GeedError, match="upgrade onnx-geed"):
        offline.measure_cache(copy)
    with pytest.raises(GeedError, match="upgrade onnx-geed"):
        caching.write_cache(MODEL, DIGITS, "C8", copy, **FEW)


def test_a_second_writer_is_refused(copy):
    with cache.lock(copy), pytest.raises(GeedError, match="another process is writing"):
        caching.write_cache(MODEL, DIGITS, "C8", copy, **FEW)


def test_a_moved_cache_still_opens_as_one_array_a_layer(copy, tmp_path):
    moved = tmp_path / "else where" / "renamed.geed"
    moved.parent.mkdir()
    copy.rename(moved)
    with h5py.File(moved / "cache.h5") as file:
        layer = file["orbits/0"]
        assert layer.shape == (20, 8, 16, 29, 29)
        assert layer.attrs["tensor"] == "block1"
        assert np.isfinite(layer[()]).all()
        np.testing.assert_array_equal(file["reference/5"][:20], file["orbits/5"][:, 0])
        assert file["reference/5"].shape == (30, 32)


def test_the_index_of_another_cache_is_found(copy, tmp_path):
    other = tmp_path / "other.geed"
    caching.write_cache(MODEL, DIGITS, "C8", other, **{**FEW, "seed": 1})
    shutil.copy(other / "cache.h5", copy / "cache.h5")
    (line,) = inspection.verify_cache(copy)
    assert "cache.h5 is of another cache; remove that file and run the same" in line
    (copy / "cache.h5").unlink()
    caching.write_cache(MODEL, DIGITS, "C8", copy, **FEW)
    assert inspection.verify_cache(copy) == []


def test_a_flipped_byte_of_the_index_is_found(copy, live):
    """Our own reader takes the shards, but other tools take what it says of them."""
    index, chance = copy / "cache.h5", random.Random(2)
    good = index.read_bytes()
    assert inspection.verify_cache(copy) == []
    for _ in range(20):
        content = bytearray(good)
        content[chance.randrange(len(good))] ^= 1 << chance.randrange(8)
        index.write_bytes(content)
        (line,) = inspection.verify_cache(copy)
        assert "cache.h5 is damaged in 'its structure'; remove that file" in line
    assert offline.measure_cache(copy)["measurements"] == live
    index.unlink()
    assert inspection.verify_cache(copy) == []
    caching.write_cache(MODEL, DIGITS, "C8", copy, **FEW)
    assert index.is_file()
    assert inspection.verify_cache(copy) == []


def test_a_missing_index_is_rebuilt(copy, live):
    (copy / "cache.h5").unlink()
    assert offline.measure_cache(copy)["measurements"] == live
    caching.write_cache(MODEL, DIGITS, "C8", copy, **FEW)
    assert (copy / "cache.h5").is_file()


def test_a_run_that_cannot_fit_says_so_before_it_starts(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    folder = tmp_path / "acts.geed"
    with pytest.raises(GeedError, match=r"needs .* more, the disk has 1.0 MiB free"):
        caching.write_cache(MODEL, DIGITS, "C8", folder, **FEW)
    assert not list(folder.glob("*.h5"))


def test_a_full_disk_keeps_finished_shards_and_resumes(tmp_path, monkeypatch, live):
    folder = tmp_path / "acts.geed"
    plain, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > 3:
            raise OSError(28, "No space left on device")
        plain(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GeedError, match="the disk is full; finished shards are kept"):
        caching.write_cache(MODEL, DIGITS, "C8", folder, **FEW)
    monkeypatch.undo()
    kept = inodes(folder)
    assert kept
    assert not list(folder.glob(".unfinished-*"))
    caching.write_cache(MODEL, DIGITS, "C8", folder, **FEW)
    assert {k: inodes(folder)[k] for k in kept} == kept
    assert offline.measure_cache(folder)["measurements"] == live


def test_many_small_orbits_lie_in_few_shards_of_few_bytes(tmp_path, monkeypatch, live):
    few = contents._orbits_of_a_shard
    assert [few(n, 100) for n in (20, 1000, 2000, 20000, 10**6)] == [8, 8, 15, 156, 7812]
    assert [few(20000, size) for size in (1 << 20, 4 << 20, 1 << 30)] == [8, 4, 0]
    assert few(10**6, 1 << 16) * (1 << 16) <= 4 << 20
    # A cache that was begun with other shards goes on with those.
    folder, some = tmp_path / "acts.geed", {**FEW, "batch_size": 8}
    caching.write_cache(MODEL, DIGITS, "C8", folder, mode="stats", **some)
    begun = sorted(folder.glob("shard-*.h5"))
    assert [p.stem[-2:] for p in begun] == ["00", "08", "16"]
    begun[1].unlink()
    monkeypatch.setattr(contents, "_SHARDS", 2)
    caching.write_cache(MODEL, DIGITS, "C8", folder, mode="stats", **some)
    assert sorted(folder.glob("shard-*.h5")) == begun
    other = tmp_path / "fewer.geed"
    caching.write_cache(MODEL, DIGITS, "C8", other, mode="stats", **some)
    assert [p.stem[-2:] for p in sorted(other.glob("shard-*.h5"))] == ["00", "10"]
    for written in (folder, other):
        assert offline.measure_cache(written)["measurements"] == live


def test_the_documented_ten_lines_read_a_cache(copy, monkeypatch, capsys):
    text = (Path(__file__).parents[2] / "docs" / "cache-format.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(copy.parent)
    exec(code, {})
    assert "block1" in capsys.readouterr().out


def test_the_checksum_is_hdf5s_own(tmp_path):
    from onnx_geed.cache.checksum import fletcher32

    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        for k, size in enumerate((1, 7, 4096, 4097, 100_000)):
            for values in (rng.standard_normal(size), np.zeros(size), np.full(size, -1.0)):
                name = f"{k}{values[0]}"
                values = values.astype(np.float32)
                file.create_dataset(name, data=values, chunks=values.shape, fletcher32=True)
                file.flush()
                raw = file[name].id.read_direct_chunk((0,))[1]
                assert fletcher32(values.view(np.uint16)) == int.from_bytes(raw[-4:], "little")


def test_chunks_are_read_by_several_threads_at_once(tmp_path):
    """h5py up to 3.15 reads them without its lock: they come back wrong, or the process ends."""
    code = f"""
import threading, time
import h5py, numpy as np
from onnx_geed.cache.shard_file import make_dataset, read_chunk, write_chunk
path = {str(tmp_path / "a.h5")!r}
with h5py.File(path, "w") as file:
    for i in range(8):
        dataset = make_dataset(
            file, f"d{{i}}", (40, 1000), (1, 1000), "f4", tensor="t", content="orbits"
        )
        for row in range(40):
            write_chunk(dataset, row, np.full((1, 1000), i, "f4"))
right, until = [], time.monotonic() + 2
def read():
    while time.monotonic() < until:
        with h5py.File(path) as file:
            right.extend(
                (read_chunk(file[f"d{{i}}"], row, path, "t") == i).all()
                for i in range(8)
                for row in range(40)
            )
threads = [threading.Thread(target=read) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert right and all(right)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_result_from_a_cache_does_not_say_where_it_runs_and_one_beside_a_cache_does(tmp_path):
    few = {"samples": 3, "norm_samples": 3, "measures": ["softmax-kl"]}
    told = []
    caching.write_cache(MODEL, DIGITS, "C4", tmp_path / "a.geed", notify=told.append, **few)
    result = offline.measure_cache(tmp_path / "a.geed")
    assert not any("Running on" in note for note in result["notes"])
    both = measure_through_cache(MODEL, DIGITS, "C4", tmp_path / "b.geed", **few)
    running = [note for note in both["notes"] if "Running on" in note]
    assert running == [n for n in measure(MODEL, DIGITS, "C4", **few)["notes"] if n in running]
    assert len(running) == 1
    assert both["measurements"] == result["measurements"]


def test_one_shard_is_one(tmp_path):
    few = {"samples": 3, "norm_samples": 3, "measures": ["softmax-kl"]}
    info = caching.write_cache(MODEL, DIGITS, "C4", tmp_path / "a.geed", **few)
    assert info["shards"] == 1
    assert " 1 shard, " in info_table(info)
    assert " 2 shards, " in info_table({**info, "shards": 2})
