"""Several groups in one run: the results of separate runs, and what is run only once."""

import json
from dataclasses import replace

import models
import numpy as np
import pytest
from click.testing import CliRunner
from running import images

import onnx_geed as geed
from onnx_geed.cli import cli
from onnx_geed.errors import GeedError, of_group
from onnx_geed.run import make_options, prepare_run, session
from onnx_geed.run.job import point_jobs
from onnx_geed.run.kept_points import KeptPoints

GROUPS = ["C8", "rotate:-15..15/7", "noise:4..32/6", "zoom:0.8..1.25/9", "jpeg:90..10/6"]
FEW = {"samples": 5, "norm_samples": 13, "seed": 3, "provider": "cpu", "batch_size": 27}
POINTS = 13 - 5
EVERY = [
    *("channel-cos", "latent-l2", "latent-cos", "softmax-kl", "unexplained", "flip-rate"),
    "unexplained@stem",
]


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return models.save(models.random_cnn(1, (8, 8)), tmp_path_factory.mktemp("net") / "net.onnx")


def data(n=17):
    return images((3, 8, 8), n)


def alike(result):
    """All of a result but when and how fast it was made."""
    return json.dumps({k: v for k, v in result.items() if k not in ("created", "runtime")})


def both(net, groups, x=None, **options):
    """Results of one run, with the inferences that it saved, each the same as that of its own."""
    options = {**FEW, "measures": EVERY, "output_kind": "logits", **options}
    x = data() if x is None else x
    together = geed.measure_groups(net, x, groups, **options)
    apart = [geed.measure(net, x, group, **options) for group in groups]
    assert [r["group"]["name"] for r in together] == list(groups)
    for one, other in zip(together, apart, strict=True):
        assert alike(one) == alike(other)
        ran, alone = dict(one["runtime"]), dict(other["runtime"])
        saved = alone.pop("inferences") - ran.pop("inferences")
        assert {**ran, "seconds": 0} == {**alone, "seconds": 0}
        yield one, saved


@pytest.mark.parametrize(
    ("options", "saved"),
    [
        ({}, POINTS),
        ({"engine": "graph"}, POINTS),
        ({"support": "disk"}, POINTS),
        ({"measures": ["latent-l2"]}, POINTS),
        ({"measures": ["unexplained"]}, POINTS),
        # Without M there are no points.
        ({"measures": ["flip-rate"]}, 0),
        # Several passes, of which each opens a session of its own.
        ({"memory": "40KiB", "batch_size": None}, 0),
    ],
)
def test_results_are_those_of_separate_runs_to_the_last_bit(net, options, saved):
    assert [s for _, s in both(net, GROUPS, **options)] == [0, *[saved] * (len(GROUPS) - 1)]


def test_points_of_other_batches_are_run_again(net):
    # Batches of 64 = 8·8 rows, and of 63 = 9·7 and 7·9; what has 63 shares.
    assert [s for _, s in both(net, GROUPS, batch_size=None)] == [0, 0, POINTS, POINTS, POINTS]


@pytest.mark.parametrize("measure", ["unexplained@stem", "latent-l2"])
def test_points_that_measures_see_otherwise_are_run_again(net, measure):
    prepared = prepare_run(net, data(), "C4", make_options({**FEW, "measures": [measure]}))
    task = prepared.task
    (seen,) = task.plan.measures
    jobs, kept = point_jobs(task, prepared.passes[0], 5), KeptPoints()
    assert kept.of(prepared, jobs) is None
    parts = list(kept.keeping(prepared, jobs, [prepared.worker.run(job) for job in jobs]))
    assert kept.of(prepared, jobs) == parts
    other = replace(
        task.plan.layers[seen.layer], layout="NPX" if measure == "latent-l2" else "NHWC"
    )
    plan = replace(task.plan, layers={**task.plan.layers, seen.layer: other})
    otherwise = replace(prepared, task=replace(task, plan=plan))
    assert kept.of(otherwise, jobs) is None


def test_a_sampled_group_has_points_of_its_own(net):
    groups = ["SO2~5", "C4", "O2~4", "flip-h"]
    assert [s for _, s in both(net, groups)] == [0, 0, 0, POINTS]


def test_a_precision_is_reached_under_each_group(net):
    options = {"samples": 40, "norm_samples": 33, "precision": 0.1, "measures": ["latent-l2"]}
    each = list(both(net, ["C4", "noise:4..32/6", "shift2x2"], data(40), **options))
    # Of 33 points, 20 are the identities of the orbits that all begin with.
    assert [saved for _, saved in each] == [0, 13, 13]
    assert len({result["precision"]["samples"] for result, _ in each}) > 1


def test_scales_and_fits_are_each_groups_own(net):
    options = {"output_action": {"stem": "fit:permutation"}, "fit_samples": 4, "untrained": True}
    each = both(net, ["C4", "flip-h", "noise:4..32/2"], **options)
    assert [saved for _, saved in each] == [0, POINTS, POINTS]


def test_a_group_is_no_reason_to_open_model_or_data_twice(net, tmp_path, monkeypatch):
    file = tmp_path / "x.npy"
    np.save(file, data())
    opened, read = [], []
    plain, moved = session.open_session, geed.run.moved_input.open_samples

    def count(of, function):
        return lambda *a, **k: (of.append(1), function(*a, **k))[1]

    monkeypatch.setattr(session, "open_session", count(opened, plain))
    monkeypatch.setattr(geed.run.moved_input, "open_samples", count(read, moved))
    geed.measure_groups(net, file, GROUPS, **FEW)
    assert (len(opened), len(read)) == (1, 1)


def test_what_runs_is_counted(net):
    steps = []
    options = {**FEW, "progress": lambda done, total: steps.append((done, total))}
    results = geed.measure_groups(net, data(), GROUPS, **options)
    ends = [step for step, after in zip(steps, [*steps[1:], (0, 0)], strict=True) if step > after]
    assert ends == [(r["runtime"]["inferences"],) * 2 for r in results]
    assert {total for _, total in steps} == {total for _, total in ends}


def test_data_that_change_between_groups_are_refused(net, tmp_path):
    file, changed = tmp_path / "x.npy", []
    np.save(file, data())

    def change(done, total):
        if done == total and not changed:
            changed.append(np.save(file, data() + 1))

    with pytest.raises(geed.GeedError, match="changed while it was measured"):
        geed.measure_groups(net, file, ["C4", "flip-h"], progress=change, **FEW)


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ([], "no group is given"),
        (["C4", "D4", "C4"], "group C4: is given twice"),
        (["C4", "noise:4..32/6", "shift3x3"], "does not divide"),
    ],
)
def test_what_is_wrong_with_groups_is_told_before_anything_runs(net, groups, told):
    def never(done, total):
        raise AssertionError

    with pytest.raises(geed.GeedError, match=told):
        geed.measure_groups(net, data(), groups, progress=never, **FEW)


def test_one_group_is_a_list_of_one(net):
    (result,) = geed.measure_groups(net, data(), "C4", **FEW)
    assert result["group"]["name"] == "C4"


# ------------------------------------------------------------------------------------------------
# Command line
# ------------------------------------------------------------------------------------------------


@pytest.fixture
def told(net, tmp_path, monkeypatch):
    """Run the command in a folder with the model and data."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", data())

    def run(*arguments, groups=("C4", "zoom:0.8..1.25/3", "noise:4..32/2")):
        chosen = [f"--group={group}" for group in groups]
        few = ["--samples=5", "--norm-samples=9", "--provider=cpu"]
        command = ["measure", net, "--data=x.npy", *chosen, *few, *arguments]
        return CliRunner().invoke(cli, [str(a) for a in command])

    return run


def test_results_lie_beside_each_other(told, tmp_path):
    got = told("--out=r.json")
    assert got.exit_code == 0, got.stderr
    names = ["r.C4.json", "r.noise-4-32-2.json", "r.zoom-0-8-1-25-3.json"]
    assert sorted(path.name for path in tmp_path.glob("*.json")) == names
    for name, group in zip(names, ["C4", "noise:4..32/2", "zoom:0.8..1.25/3"], strict=True):
        assert geed.read_result(name)["group"]["name"] == group
        assert f" {group} (" in got.stdout
    assert got.stdout.count("channel-cos  ") >= 3
    assert len(set(got.stderr.splitlines())) == len(got.stderr.splitlines())


def test_with_one_group_nothing_changes(told, tmp_path):
    got = told("--out=r.json", groups=["C4"])
    assert got.exit_code == 0, got.stderr
    assert [path.name for path in tmp_path.glob("*.json")] == ["r.json"]
    assert isinstance(json.loads(told("--format=json", groups=["C4"]).stdout), dict)


def test_json_is_a_list_and_csv_one_table(told):
    results = json.loads(told("--format=json").stdout)
    assert [r["group"]["name"] for r in results] == ["C4", "zoom:0.8..1.25/3", "noise:4..32/2"]
    head, *rows = told("--format=csv").stdout.splitlines()
    assert head.startswith("model,group,measure,")
    assert len(rows) == sum(len(r["measurements"]) for r in results)
    groups = [row.split(",")[1] for row in rows]
    assert list(dict.fromkeys(groups)) == [r["group"]["name"] for r in results]


def test_limits_are_for_every_group(told):
    results = json.loads(told("--format=json").stdout)
    values = {
        result["group"]["name"]: record["value"]
        for result in results
        for record in result["measurements"]
        if record["measure"] == "latent-l2"
    }
    smallest, *_, largest = sorted(values.values())
    got = told(f"--fail-above=latent-l2={largest - 1e-9}")
    lines = [line for line in got.stderr.splitlines() if line.startswith("over the limit: ")]
    (worst,) = [name for name, value in values.items() if value == largest]
    assert got.exit_code == 1
    assert [line.split(": ")[1] for line in lines] == [worst]
    assert told(f"--fail-above=latent-l2={largest + 1}").exit_code == 0
    assert told(f"--fail-above=latent-l2={smallest - 1e-9}").stderr.count("over the limit") == 3


@pytest.mark.parametrize(
    ("arguments", "groups", "line"),
    [
        (["--cache=a.geed"], ["C4", "D4"], "--cache: holds the activations of one group"),
        (["--cache-mode=reduced"], ["C4", "D4"], "--cache"),
        (
            ["--fail-above=softmax-kl=1", "--junit=a.xml"],
            ["C4", "D4"],
            "--junit: works with one --group",
        ),
        (["--fail-above=output-l2=1"], ["C4", "D4"], "this is not measured"),
        ([], ["C4", "C4"], "group C4: is given twice"),
        ([], ["C4", "C5O"], "C<n>"),
        (["--out=nowhere/r.json"], ["C4", "D4"], "no folder"),
        (["--out=."], ["C4", "D4"], "name a file"),
        (["--out=r.json"], ["shift2x2*flip-h", "shift2x2/flip-h"], "would both be written to"),
        (["--references"], ["C4", "noise:4..32/2"], "is a family, which has none"),
    ],
)
def test_what_does_not_go_with_several_is_told_in_one_line(told, tmp_path, arguments, groups, line):
    got = told(*arguments, groups=groups)
    assert got.exit_code == 2, got.output
    assert got.stdout == ""
    assert len(got.stderr.splitlines()) == 1
    assert line in got.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_a_cache_is_of_its_own_group(told, net, tmp_path):
    assert told("--cache=a.geed", groups=["C4"]).exit_code == 0
    got = CliRunner().invoke(cli, ["measure", "a.geed", "--group=C4", "--group=D4"])
    assert got.exit_code == 2
    assert "is fixed by the cache a.geed" in got.stderr


def test_what_was_measured_is_kept_where_a_later_group_fails(told, tmp_path, monkeypatch):
    (tmp_path / "onlysome.py").write_text(
        "def darker(x):\n    if x[0, 0, 0] > LIMIT:\n        raise ValueError('too light')\n"
        "    return 0.5 * x\n\n\ndef members():\n    return {'darker': darker}\n\n\n"
        f"LIMIT = {float(np.sort(data()[:, 0, 0, 0])[-2])}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    got = told("--out=r.json", "--samples=17", groups=["C4", "onlysome:members", "flip-h"])
    assert got.exit_code == 2
    assert "too light" in got.stderr.splitlines()[-1]
    assert got.stderr.splitlines()[-1].count("group onlysome:members: ") == 1
    assert [path.name for path in tmp_path.glob("*.json")] == ["r.C4.json"]
    assert " C4 (" in got.stdout


def test_the_group_that_failed_is_named_once():
    for said in ("group C8 does not move this input", "group c8: no", "sample 3 holds NaN"):
        assert of_group("C8", GeedError(said)).lower().count("group c8") == 1
    assert of_group("SO2~8", GeedError("sample 3 holds NaN")) == "group SO2~8: sample 3 holds NaN"
