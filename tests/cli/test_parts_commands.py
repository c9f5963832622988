"""``measure --shard`` and ``merge`` as a user of a batch queue meets them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import pytest
from click.testing import CliRunner
from running import images

from onnx_geed.cli import cli
from onnx_geed.cli.commands import cli as all_commands

PAGE = Path(__file__).parents[2] / "docs/how-to/slurm.md"


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def plain(path):
    held = json.loads(Path(path).read_text())
    return {k: v for k, v in held.items() if k not in ("created", "command", "runtime")}


@pytest.fixture
def box(tmp_path):
    models.save(models.random_cnn(0, (8, 8)), tmp_path / "model.onnx")
    np.save(tmp_path / "x.npy", images((3, 8, 8), 12))
    return tmp_path


def measured(box, *words, group="C8"):
    shared = ("--data", box / "x.npy", "--group", group, "--samples", 7, "--batch-size", 8)
    return invoke("measure", box / "model.onnx", *shared, "--output-kind", "logits", *words)


def in_parts(box, n, *words, stem="part"):
    files = [box / f"{stem}-{i}.json" for i in range(1, n + 1)]
    for i, path in enumerate(files, 1):
        got = measured(box, "--shard", f"{i}/{n}", "-o", path, *words)
        assert got.exit_code == 0, got.output
    return files


def test_parts_are_measured_and_merged(box):
    assert measured(box, "--out", box / "whole.json").exit_code == 0
    files = in_parts(box, 3)
    got = invoke("merge", *files[::-1], "-o", box / "merged.json")
    assert got.exit_code == 0, got.output
    assert plain(box / "merged.json") == plain(box / "whole.json")
    assert "latent-l2" in got.stdout
    part = measured(box, "--shard", "2/3", "-o", box / "again.json")
    assert part.exit_code == 0
    assert "part 2 of 3, with 2 of the 7 samples of D" in " ".join(part.stdout.split())
    assert "note: part 2 of 3" in part.stderr
    assert "name its file with --out" in measured(box, "--shard", "2/3").stderr
    printed = measured(box, "--shard", "2/3", "--format", "json")
    assert json.loads(printed.stdout)["part"] == json.loads(files[1].read_text())["part"]


def test_several_groups_go_into_files_beside_each_other(box):
    files = in_parts(box, 2, "--group", "flip-h")
    for name in ("C8", "flip-h"):
        got = measured(box, "--out", box / f"{name}.json", group=name)
        assert got.exit_code == 0
        of_group = [f.with_name(f"{f.stem}.{name}.json") for f in files]
        got = invoke("merge", *of_group, "-o", box / "merged.json")
        assert got.exit_code == 0, got.output
        assert plain(box / "merged.json") == plain(box / f"{name}.json")


def test_limits_are_held_by_merge(box):
    files = in_parts(box, 2)
    got = invoke("merge", *files, "-o", box / "m.json", "--fail-above", "latent-l2=0.0001",
                 "--junit", box / "m.xml")  # fmt: skip
    assert got.exit_code == 1
    assert "over the limit: latent-l2" in got.stderr
    assert (box / "m.json").exists()
    assert 'failures="1"' in (box / "m.xml").read_text()
    got = invoke("merge", *files, "-o", box / "m2.json", "--fail-above", "latent-l3=0.1")
    assert got.exit_code == 2
    assert not (box / "m2.json").exists()
    got = invoke("merge", *files, "-o", box / "m2.json", "--junit", box / "m.xml")
    assert got.exit_code == 2
    assert "add --fail-above MEASURE=LIMIT" in got.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--shard", "0/3"), "--shard 0/3: parts are numbered from 1"),
        (("--shard", "two"), "--shard two: give i/n"),
        (("--shard", "1/2", "--precision", "0.1", "--samples", "20"), "--precision: adds samples"),
        (("--shard", "1/2", "--fail-above", "latent-l2=1"), "give it to onnx-geed merge"),
        (("--shard", "1/2", "--cache", "acts.geed"), "--shard: cannot be combined with --cache"),
        (
            ("--shard", "1/2", "--fail-above", "latent-l2=1", "--junit", "j.xml"),
            "--junit: needs the whole result; give it to onnx-geed merge",
        ),
    ],
)
def test_what_does_not_go_with_a_part_is_refused_in_a_line(box, monkeypatch, words, told):
    monkeypatch.chdir(box)
    got = measured(box, *words, "--out", box / "part.json")
    assert got.exit_code == 2
    assert told in got.stderr
    assert len(got.stderr.strip().splitlines()) == 1
    assert not (box / "part.json").exists()
    assert not (box / "acts.geed").exists()


def test_a_cache_is_not_measured_in_parts(box):
    shared = ("--data", box / "x.npy", "--group", "C4", "--samples", 3, "-o", box / "a.geed")
    assert invoke("cache", box / "model.onnx", *shared, "--output-kind", "logits").exit_code == 0
    got = invoke("measure", box / "a.geed", "--shard", "1/2", "-o", box / "p.json")
    assert got.exit_code == 2
    assert "--shard: a.geed is a cache" in got.stderr


def test_merge_reads_neither_the_model_nor_the_data(box):
    files = in_parts(box, 2)
    (box / "model.onnx").unlink()
    (box / "x.npy").unlink()
    code = (
        "import sys; from onnx_geed.run import merge; merge(sys.argv[1:]); "
        "sys.exit('onnxruntime' in sys.modules)"
    )
    got = subprocess.run([sys.executable, "-c", code, *files], check=False)
    assert got.returncode == 0
    assert invoke("merge", *files, "-o", box / "merged.json").exit_code == 0


def test_parts_are_opened_by_the_other_commands(box):
    """Those without orbits too: in a line, where there is nothing to show."""
    files = in_parts(box, 8)
    page = box / "page.html"
    assert invoke("report", files[0], "-o", page, "--data", box / "x.npy").exit_code == 0
    assert "part 1 of 8, with 1 of the 7 samples of D" in " ".join(page.read_text().split())
    assert "part 1 of 8" in invoke("compare", files[0], files[0]).stdout
    for words in (["report", files[7], "-o", page], ["compare", files[7], files[7]],
                  ["aggregate", files[7], files[7]]):  # fmt: skip
        got = invoke(*words)
        assert got.exit_code in (0, 2)
        assert not got.exception or isinstance(got.exception, SystemExit)


def test_a_result_does_not_overwrite_a_part(box):
    files = in_parts(box, 2)
    got = invoke("merge", *files, "-o", files[0])
    assert got.exit_code == 2
    assert "part" in json.loads(files[0].read_text())


def test_the_scripts_of_the_page_on_slurm_work_in_a_loop(box, tmp_path):
    """As the page says, with a shell loop in place of the queue; one task is run a second time."""
    scripts = re.findall(r"```bash\n(#!/bin/bash.*?)```", PAGE.read_text(), re.DOTALL)
    array, join = scripts
    array = array.replace("images/", "x.npy").replace("--preprocess imagenet ", "")
    array = array.replace("--samples 10000 --batch-size 64", "--samples 9 --batch-size 8")
    array = array.replace("--provider cpu", "--provider cpu --output-kind logits")
    join = join.replace("softmax-kl=0.05", "softmax-kl=50")
    (box / "measure.sbatch").write_text(array)
    (box / "merge.sbatch").write_text(join)
    tool = box / "bin" / "onnx-geed"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m onnx_geed "$@"\n')
    tool.chmod(0o755)
    env = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}"}
    root = str(PAGE.parents[2])
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [root, env.get("PYTHONPATH")]))

    def shell(line):
        return subprocess.run(
            ["bash", "-c", line], cwd=box, env=env, check=False, capture_output=True, text=True
        )

    loop = "for SLURM_ARRAY_TASK_ID in {}; do export SLURM_ARRAY_TASK_ID; bash measure.sbatch; done"
    assert loop.format("1 2 3 4 5 6 7 8") in PAGE.read_text()
    first = shell(loop.format("1 2 4 6 7 8"))
    assert first.returncode == 0, first.stderr
    lacking = shell("bash merge.sbatch")
    assert lacking.returncode == 2
    assert "parts 3, 5 of 8 are missing" in lacking.stderr
    assert shell(loop.format("3 5")).returncode == 0
    done = shell("bash merge.sbatch")
    assert done.returncode == 0, done.stderr
    words = ("--samples", 9, "--provider", "cpu")
    assert measured(box, *words, "--out", box / "whole.json").exit_code == 0
    assert plain(box / "result.json") == plain(box / "whole.json") | {
        "data": plain(box / "whole.json")["data"] | {"source": "x.npy"},
        "model": plain(box / "whole.json")["model"] | {"path": "model.onnx"},
    }


def test_out_has_a_short_name_everywhere():
    with_out = [c for c in all_commands.commands.values() if any(p.name == "out" for p in c.params)]
    assert len(with_out) >= 6
    for command in with_out:
        (out,) = [p for p in command.params if p.name == "out"]
        assert out.opts == ["-o", "--out"]
