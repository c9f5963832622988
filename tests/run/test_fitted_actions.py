"""Output actions that are fitted: recovered where they are planted, by every way of measuring."""

import json

import models
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from running import images, orbits

import onnx_geed as geed
from onnx_geed.cache import measure_cache, write_cache
from onnx_geed.cli.commands import cli
from onnx_geed.files import write_json
from onnx_geed.groups import parse_group, read_tables, write_fits
from onnx_geed.measures import fit_seconds

PLAIN = {"samples": 6, "norm_samples": 16, "seed": 3, "provider": "cpu"}
FEW = PLAIN | {"fit_samples": 10}
KINDS = ("permutation", "orthogonal", "linear")


def lifting(folder, disturb=0.0):
    """A network whose channels are planted to change places under C4, its data and its table."""
    model = models.c4_lifting()
    known = np.array(models.known(model)["channels"])
    for tensor in model.graph.initializer:
        if tensor.name == "w1" and disturb:
            kernels = np.frombuffer(tensor.raw_data, np.float32).reshape(tensor.dims).copy()
            rng = np.random.default_rng(1)
            kernels = rng.normal(size=kernels.shape).astype(np.float32) * disturb
            tensor.raw_data = kernels.tobytes()
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
    return models.save(model, folder / "lifting.onnx"), images(tuple(shape), 30), known


def disk_of(size):
    away = np.arange(size) - (size - 1) / 2
    return (away[:, None] ** 2 + away**2 <= (size / 2) ** 2).astype(np.float32)


def fitted(result, measure="unexplained"):
    (record,) = [r for r in result["measurements"] if r["measure"] == measure]
    return record


@pytest.fixture
def steered(tmp_path):
    """A network whose channels turn by matrices under C4, and its data."""
    model = models.c4_vector_fields()
    matrices = np.array(models.known(model)["matrices"])
    return models.save(model, tmp_path / "steered.onnx"), images((3, 7, 7), 40), matrices


def measured(path, data, kind, layer="fields", group="C4", **options):
    asked = {"output_action": {layer: f"fit:{kind}"}, "measures": [f"unexplained@{layer}"]}
    action = options.get("output_action", asked["output_action"])
    fits = any(isinstance(value, str) and value.startswith("fit:") for value in action.values())
    return geed.measure(path, data, group, **{**asked, **(FEW if fits else PLAIN), **options})


def test_planted_permutations_are_found_from_two_samples(tmp_path):
    path, data, known = lifting(tmp_path)
    (table,) = geed.fit_actions(
        path, data, "C4", ["map1"], kind="permutation", **{**FEW, "fit_samples": 2}
    )
    assert (table.kind, table.fit.defect, table.fit.lambda_) == ("channels", (0.0, 0.0), None)
    np.testing.assert_array_equal(table.values, known)
    action = {"map1": "fit:permutation"}
    asked = ["channel-cos@map1", "unexplained@map1"]
    result = geed.measure(path, data, "C4", output_action=action, measures=asked, **FEW)
    cos, left = result["measurements"]
    assert cos["value"] == pytest.approx(-1, abs=1e-6)
    assert left["value"] < 1e-9
    for record, worse in ((cos, -0.95), (left, 0.3)):
        fit = record["fit"]
        assert (fit["kind"], fit["samples"], fit["lambda"]) == ("permutation", 10, None)
        assert min(fit[name] for name in ("shuffled", "identity", "other_element")) > worse
        assert fit["defect"] == {"median": 0.0, "worst": 0.0}
        assert any("as a table does" in note for note in record["notes"])


def test_planted_matrices_are_found_and_nothing_less_takes_their_place(steered):
    path, data, matrices = steered
    record = fitted(measured(path, data, "linear"))
    assert record["value"] < 1e-3
    assert record["output_action"] == "grid+mixed channels"
    # The matrices that are planted are no rotations.
    rotated, permuted = (
        fitted(measured(path, data, kind))["value"] for kind in ("orthogonal", "permutation")
    )
    assert permuted > rotated > 50 * record["value"]
    (table,) = geed.fit_actions(path, data, "C4", ["fields"], kind="linear", **FEW)
    np.testing.assert_allclose(table.values, matrices, atol=0.05)
    fit = record["fit"]
    assert min(fit[name] for name in ("shuffled", "identity", "other_element")) > 0.3
    assert fit["defect"]["worst"] < 0.05


def test_what_is_not_equivariant_is_fitted_worse(tmp_path):
    good, data, _ = lifting(tmp_path)
    values = {kind: fitted(measured(good, data, kind, "map1"))["value"] for kind in KINDS}
    bad, data, _ = lifting(tmp_path, disturb=1.0)
    for kind in KINDS:
        record = fitted(measured(bad, data, kind, "map1"))
        assert record["value"] > 100 * values[kind] + 0.05


def test_the_scales_are_those_of_the_equations(steered):
    path, data, _ = steered
    result = measured(path, data, "linear")
    record, fit = fitted(result), fitted(result)["fit"]
    (table,) = geed.fit_actions(path, data, "C4", ["fields"], kind="linear", **FEW)
    rho, order = table.values, 4
    drawn = np.random.default_rng(3).permutation(40)
    assert table.fit.indices == tuple(drawn[6:16])
    import onnx

    (y,) = orbits(onnx.load(path), "C4", data[drawn[:6]], ["fields"], 64)
    y = y.astype(np.float64)

    def left(of, reference, element):
        """Mean squared distance over e left out, f(gx) of some samples from a prediction."""
        errors = []
        for at, ref in zip(of, reference, strict=True):
            for g in range(1, order):
                matrix = np.eye(y.shape[2]) if element is None else rho[element(g)]
                moved = np.einsum("cd,dhw->chw", matrix, np.rot90(y[ref, 0], g, (1, 2)))
                errors.append(np.square(y[at, g] - moved).sum())
        return float(np.mean(errors))

    own = range(6)
    m2 = record["normaliser"]
    assert record["unnormalised"] == pytest.approx(left(own, own, lambda g: g), rel=1e-5)
    assert fit["identity"] == pytest.approx(left(own, own, None) / m2, rel=1e-5)
    shuffled = left(own, [1, 2, 3, 4, 5, 0], lambda g: g) / m2
    assert fit["shuffled"] == pytest.approx(shuffled, rel=1e-5)
    other = left(own, own, lambda g: {1: 2, 2: 3, 3: 1}[g]) / m2
    assert fit["other_element"] == pytest.approx(other, rel=1e-5)
    assert np.mean(fit["per_sample"]["identity"]) == pytest.approx(fit["identity"])
    low, high = fit["ci95"]["identity"]
    assert low < fit["identity"] < high


def test_a_group_of_two_has_no_other_element(steered):
    path, data, _ = steered
    fit = fitted(measured(path, data, "orthogonal", group="flip-h"))["fit"]
    assert fit["other_element"] is None
    assert fit["ci95"]["other_element"] is None


@pytest.mark.parametrize("kind", KINDS)
def test_graph_cache_file_and_run_agree(steered, tmp_path, kind):
    path, data, _ = steered
    live = fitted(measured(path, data, kind))
    by_graph = fitted(measured(path, data, kind, engine="graph"))
    assert by_graph["value"] == pytest.approx(live["value"], rel=1e-4, abs=1e-7)
    assert by_graph["fit"] == live["fit"]
    tables = geed.fit_actions(path, data, "C4", ["fields"], kind=kind, **FEW)
    write_fits(tmp_path / "actions.npz", tables)
    given = {"fields": str(tmp_path / "actions.npz")}
    from_file = fitted(measured(path, data, kind, output_action=given))
    assert from_file == live | {"notes": from_file["notes"]}
    folder = tmp_path / "acts.geed"
    kept = {**PLAIN, "samples": 16}
    write_cache(path, data, "C4", folder, measures=["unexplained@fields"], **kept)
    asked = {"samples": 6, "norm_samples": 16, "measures": ["unexplained@fields"]}
    cached = measure_cache(folder, output_action={"fields": f"fit:{kind}"}, fit_samples=10, **asked)
    record = fitted(cached)
    assert (record["value"], record["deviations"]) == (live["value"], live["deviations"])
    assert record["fit"] == live["fit"]
    assert fitted(measure_cache(folder, output_action=given, **asked))["fit"] == live["fit"]
    (again,) = geed.fit_cached_actions(folder, ["fields"], kind=kind, samples=6, fit_samples=10)
    np.testing.assert_array_equal(again.values, tables[0].values)
    assert again.fit.marks == tables[0].fit.marks


def test_figures_do_not_depend_on_batches_and_passes(steered):
    path, data, _ = steered
    asked = {
        "output_action": {"fields": "fit:linear", "last": "fit:linear"},
        "measures": ["unexplained@fields", "unexplained@last"],
        "layout": {"last": "NHWC"},
    }
    whole = geed.measure(path, data, "C4", **asked, **FEW)
    for options in ({"batch_size": 4}, {"memory": "1KiB", "batch_size": 4}):
        other = geed.measure(path, data, "C4", **asked, **{**FEW, **options})
        for one, two in zip(whole["measurements"], other["measurements"], strict=True):
            assert one["value"] == pytest.approx(two["value"], rel=1e-5)
            assert one["fit"]["lambda"] == two["fit"]["lambda"]
    assert other["runtime"]["inferences"] > whole["runtime"]["inferences"]


def test_inferences_are_counted(steered):
    path, data, _ = steered
    plain = geed.measure(path, data, "C4", measures=["unexplained@fields"], **PLAIN)
    result = measured(path, data, "linear")
    # Ten samples to fit to, and D again for the scales.
    more = 4 * (10 + 6)
    assert result["runtime"]["inferences"] == plain["runtime"]["inferences"] + more


def test_a_fit_that_takes_long_to_solve_is_asked_for_with_its_time(steered, monkeypatch):
    path, data, _ = steered
    monkeypatch.setattr("onnx_geed.run.fit_requests._LONGEST_SOLVING", 0.0)
    with pytest.raises(geed.GeedError, match=r"fields has 6 channels, .* min to solve.*fit-anyway"):
        measured(path, data, "linear")
    anyway = measured(path, data, "linear", fit_anyway=True)
    assert any("min to solve: fitted anyway" in note for note in anyway["notes"])
    measured(path, data, "permutation")


@pytest.mark.parametrize(
    ("kind", "channels", "seconds"),
    # What it took, of two cores, in benchmarks/README.md.
    [("orthogonal", 2048, 87.5), ("orthogonal", 256, 11.5), ("linear", 256, 4.1)],
)
def test_the_time_of_a_fit_is_about_what_it_was(kind, channels, seconds):
    assert seconds / 3 < fit_seconds(8, channels, kind, 10) < 3 * seconds


def test_vectors_are_fitted_where_there_are_samples_enough(steered):
    path, data, _ = steered
    with pytest.raises(geed.GeedError, match=r"vector of 6 entries.*--fit-samples 18"):
        measured(path, data, "linear", "vector")
    result = measured(path, data, "linear", "vector", fit_samples=18)
    assert fitted(result)["output_action"] == "matrices"
    assert fitted(result)["value"] < 0.05
    anyway = measured(path, data, "linear", "vector", fit_anyway=True)
    assert any("fitted anyway" in note for note in anyway["notes"])
    both = ["unexplained@vector", "unexplained@fields"]
    mixed = measured(path, data, "linear", "[vf]*", measures=both)
    assert [r["measure"] for r in mixed["measurements"] if "fit" not in r] == ["unexplained"]
    assert any("not fitted: --output-action [vf]*" in note for note in mixed["notes"])


def test_a_pattern_of_which_nothing_is_measured_is_refused(steered):
    path, data, _ = steered
    with pytest.raises(geed.GeedError, match=r"none of its layers is measured: add --measure"):
        measured(path, data, "linear", "v*", measures=["unexplained@fields"])


def test_too_few_samples_say_how_many_there_are(steered):
    path, data, _ = steered
    with pytest.raises(geed.GeedError, match="there is only 1: give fewer --samples"):
        measured(path, data[:7], "linear")
    few = measured(path, data[:11], "linear")
    assert "only 5 of the 10 samples wanted for the fit exist" in few["notes"]
    assert fitted(few)["fit"]["samples"] == 5


def test_a_fit_that_has_seen_d_is_refused(steered, tmp_path):
    path, data, _ = steered
    tables = geed.fit_actions(path, data, "C4", ["fields"], kind="linear", **FEW)
    write_fits(tmp_path / "a.npz", tables)
    given = {"fields": str(tmp_path / "a.npz")}
    with pytest.raises(geed.GeedError, match="4 of the 10 samples of D are among"):
        measured(path, data, "linear", output_action=given, samples=10)
    # A copy in another order is found as well.
    with pytest.raises(geed.GeedError, match=r"are among those it was fitted to"):
        measured(path, data[::-1].copy(), "linear", output_action=given, seed=0)
    other = images((3, 7, 7), 40, seed=9)
    assert fitted(measured(path, other, "linear", output_action=given))["value"] < 0.05


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"output_action": {"fields": "fit:linar"}}, "fit:linar: neither a kind of fit.*linear"),
        ({"output_action": {"feilds": "fit:linear"}}, "no layer is called 'feilds'.*fields"),
        ({"measures": ["latent-l2@pooled"]}, "fields is not measured"),
        (
            {"output_action": {"fields": "fit:linear"}, "measures": ["channel-cos@fields"]},
            "add --measure unexplained@fields",
        ),
        ({"fit_samples": 1}, "at least two"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_one_line(steered, options, told):
    path, data, _ = steered
    with pytest.raises(geed.GeedError, match=told) as error:
        measured(path, data, "linear", **options)
    assert "\n" not in str(error.value)


def test_sampled_groups_compile_and_caches_refuse_fits(steered, tmp_path):
    path, data, _ = steered
    with pytest.raises(geed.GeedError, match="differ from sample to sample"):
        measured(path, data, "linear", group="SO2~8")
    action = {"fields": "fit:linear"}
    with pytest.raises(geed.GeedError, match="fit it first with onnx-geed fit"):
        geed.compile_measurement(path, "C4", tmp_path / "m.onnx", output_action=action)
    with pytest.raises(geed.GeedError, match="when a cache is measured"):
        write_cache(path, data, "C4", tmp_path / "a.geed", output_action=action, **PLAIN)


def test_what_takes_no_matrices_is_measured_without_them(steered):
    path, data, _ = steered
    asked = ["unexplained@fields", "channel-cos@fields"]
    result = measured(path, data, "linear", measures=asked)
    cos = fitted(result, "channel-cos")
    assert (cos["output_action"], cos.get("fit")) == ("grid", None)
    assert any(
        "channel-cos@fields does not use the fitted matrices" in note for note in result["notes"]
    )


def test_only_what_is_measured_is_said_not_to_use_the_matrices(tmp_path):
    path, data = (
        models.save(models.random_cnn(2, (8, 8)), tmp_path / "n.onnx"),
        images((3, 8, 8), 40),
    )
    result = measured(
        *(path, data, "orthogonal", "logits"), measures=[], output_kind="embedding", fit_samples=30
    )
    assert "softmax-kl" not in [record["measure"] for record in result["measurements"]]
    notes = [note for note in result["notes"] if "softmax-kl" in note]
    assert [note.partition(":")[0] for note in notes] == ["left out"]


def test_a_cache_says_once_what_does_not_use_the_matrices(steered, tmp_path):
    path, data, _ = steered
    write_fits(tmp_path / "a.npz", geed.fit_actions(path, data, "C4", ["fields"], **FEW))
    asked = {"measures": ["unexplained@fields", "channel-cos@fields"]}
    asked["output_action"] = {"fields": str(tmp_path / "a.npz")}
    write_cache(path, data, "C4", tmp_path / "a.geed", **asked, **PLAIN)
    live = geed.measure(path, data, "C4", **asked, **PLAIN)
    told = [
        [note for note in result["notes"] if "does not use the fitted" in note]
        for result in (live, measure_cache(tmp_path / "a.geed"))
    ]
    assert len(told[0]) == 1
    assert told[0] == told[1]


def test_no_measure_asked_for_means_unexplained_of_what_is_fitted(steered):
    path, data, _ = steered
    result = measured(path, data, "orthogonal", measures=[])
    assert fitted(result)["fit"]["kind"] == "orthogonal"
    assert {r["measure"] for r in result["measurements"]} > {"unexplained"}


def test_a_representation_composes(steered):
    path, data, _ = steered
    rough, true = (
        geed.fit_actions(path, data, "C4", ["fields"], representation=wanted, **FEW)[0]
        for wanted in (False, True)
    )
    assert true.fit.defect[1] < 1e-9 < rough.fit.defect[1]
    table = parse_group("C4").table
    for g in range(4):
        for h in range(4):
            product = true.values[g] @ true.values[h]
            np.testing.assert_allclose(product, true.values[table[g, h]], atol=1e-9)
    with pytest.raises(geed.GeedError, match="--kind orthogonal"):
        geed.fit_actions(path, data, "C4", ["fields"], kind="linear", representation=True, **FEW)


def test_what_is_left_of_a_defect_is_told(tmp_path, monkeypatch):
    path = models.save(models.random_cnn(1, (8, 8), width=5), tmp_path / "m.onnx")
    data, told = images((3, 8, 8), 40), []
    cache = tmp_path / "c.geed"
    write_cache(path, data, "D3", cache, measures=["unexplained@stem"], **PLAIN | {"samples": 16})

    def fits(representation=True):
        told.clear()
        asked = {"representation": representation, "notify": told.append}
        yield geed.fit_actions(path, data, "D3", ["stem"], **asked, **FEW)[0]
        yield geed.fit_cached_actions(cache, ["stem"], samples=6, fit_samples=10, **asked)[0]

    table = parse_group("D3").table
    for rough, true in zip(fits(False), fits(), strict=True):
        assert true.fit.defect[1] < 1e-9 < 0.1 < rough.fit.defect[1]
        for g, row in enumerate(table):
            np.testing.assert_allclose(true.values[g] @ true.values, true.values[row], atol=1e-9)
    monkeypatch.setattr("onnx_geed.measures.fit_defect._MOST_SIDE", 1)
    for left in fits():
        (note,) = [line for line in told if "are no representation" in line]
        assert note.startswith("note: --fit-representation: the maps of stem are")
        assert f"to {left.fit.defect[1]:.2g} (worst)" in note
        told.clear()


def test_the_note_on_permutations_says_what_a_table_of_their_rows_is_compared_with(tmp_path):
    """Of a permutation that leaves vectors in place f̂ is f(x), of such a table the mean."""
    path = models.save(models.random_cnn(1, (8, 8), width=5), tmp_path / "m.onnx")
    data = images((3, 8, 8), 40)
    group, rows = parse_group("flip-h"), np.tile(np.arange(5), (2, 1))
    measure, more = ["unexplained@logits"], PLAIN | {"fit_samples": 16}
    fit = geed.measure(
        path, data, "flip-h", output_action={"logits": "fit:permutation"}, measures=measure, **more
    )
    (record,) = fit["measurements"]
    table = geed.fit_actions(path, data, "flip-h", ["logits"], kind="permutation", **more)[0]
    np.testing.assert_array_equal(table.values, rows)
    given = geed.Table(group.elements, "permutation", rows, "given")
    plain = geed.measure(
        path, data, "flip-h", output_action={"logits": given}, measures=measure, **PLAIN
    )
    (other,) = plain["measurements"]
    # Of two elements the mean lies half way between: of the square, each has a quarter.
    assert record["value"] == pytest.approx(4 * other["value"], rel=1e-5)
    assert any("can give another value" in note for note in record["notes"])


def test_what_no_measurement_would_take_is_not_fitted(steered, tmp_path):
    path, data, _ = steered
    told = "rotate:-15..15/3: is a family, .* fit them while measuring"
    with pytest.raises(geed.GeedError, match=told):
        geed.fit_actions(path, data, "rotate:-15..15/3", ["fields"], **FEW)
    cache = tmp_path / "c.geed"
    write_cache(path, data, "rotate:-15..15/3", cache, layers=["fields"], provider="cpu")
    with pytest.raises(geed.GeedError, match=told):
        geed.fit_cached_actions(cache, ["fields"], samples=6, fit_samples=10)


def test_options_of_fits_are_refused_where_nothing_is_fitted(steered, tmp_path):
    path, data, _ = steered
    np.save(tmp_path / "x.npy", data)
    asked = ["measure", path, "--data", tmp_path / "x.npy", "--group", "C4", "--samples", 6]
    for idle in (["--fit-samples", 9], ["--fit-anyway"]):
        ran = CliRunner().invoke(cli, list(map(str, [*asked, *idle])))
        assert ran.exit_code == 2
        assert "nothing is fitted" in ran.stderr
    fitted_too = ["--output-action", "fields=fit:linear", "--fit-samples", 9]
    assert CliRunner().invoke(cli, list(map(str, [*asked, *fitted_too]))).exit_code == 0


def test_files_hold_several_layers_and_say_which(steered, tmp_path):
    path, data, _ = steered
    out = tmp_path / "actions.npz"
    layers = ("fields", "last")
    arguments = ["fit", str(path), "--data", str(tmp_path / "x.npy"), "--group", "C4", "-o", out]
    np.save(tmp_path / "x.npy", data)
    arguments += [part for layer in layers for part in ("--layer", layer)]
    arguments += ["--layout", "last=NHWC", "--samples", 6, "--seed", 3, "--fit-samples", 10]
    ran = CliRunner().invoke(cli, list(map(str, arguments)))
    assert ran.exit_code == 0, ran.output
    assert "fitting 2 layers to 10 samples" in ran.stderr
    assert [table.fit.layer for table in read_tables(out)] == list(layers)
    with pytest.raises(geed.GeedError, match="several layers: fields, last"):
        geed.read_table(out)
    given = {"fields": str(out), "last": str(out)}
    asked = ["unexplained@fields", "unexplained@last"]
    result = measured(path, data, "", output_action=given, measures=asked, layout={"last": "NHWC"})
    assert [r["fit"]["kind"] for r in result["measurements"]] == ["orthogonal"] * 2
    with pytest.raises(geed.GeedError, match="fitted to fields, last, so it has no action for"):
        measured(path, data, "", output_action={"pooled": str(out)}, measures=asked)
    write_json(result, tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["measurements"][0]["fit"]["samples"] == 10


def test_an_untrained_network_is_judged_by_a_fit_of_its_own(tmp_path):
    path, data, _ = lifting(tmp_path)
    record = fitted(measured(path, data, "linear", "map1", untrained=True))
    (table,) = geed.fit_actions(path, data, "C4", ["map1"], kind="linear", **FEW)
    write_fits(tmp_path / "a.npz", [table])
    given = {"map1": str(tmp_path / "a.npz")}
    with pytest.raises(geed.GeedError, match="was fitted to the trained network"):
        measured(path, data, "linear", "map1", untrained=True, output_action=given)
    # Its own identity is no worse than its own fit, by which it is judged.
    plain = geed.measure(path, data, "C4", measures=["unexplained@map1"], untrained=True, **PLAIN)
    drawn = fitted(plain)["references"]["untrained"]["value"]
    assert record["references"]["untrained"]["value"] < drawn


def test_a_file_of_another_layer_is_refused(steered, tmp_path):
    path, data, _ = steered
    write_fits(tmp_path / "a.npz", geed.fit_actions(path, data, "C4", ["fields"], **FEW))
    given = {"last": str(tmp_path / "a.npz")}
    asked = {"measures": ["unexplained@last"], "layout": {"last": "NHWC"}}
    with pytest.raises(geed.GeedError, match="fitted to fields, so it has no action for last"):
        measured(path, data, "", output_action=given, **asked)
    # Of a pattern, the layers that were not fitted stay as they are.
    both = {"measures": ["unexplained@fields", "unexplained@last"], "layout": {"last": "NHWC"}}
    pattern = {"[fl]*": str(tmp_path / "a.npz")}
    records = measured(path, data, "", output_action=pattern, **both)["measurements"]
    assert [record["layer"] for record in records if "fit" in record] == ["fields"]


def test_an_action_that_no_measure_takes_is_refused(steered, tmp_path):
    path, data, matrices = steered
    write_fits(tmp_path / "a.npz", geed.fit_actions(path, data, "C4", ["fields"], **FEW))
    given = {"fields": str(tmp_path / "a.npz")}
    with pytest.raises(geed.GeedError, match="latent-l2 takes no such action: add --measure"):
        measured(path, data, "", output_action=given, measures=["latent-l2@fields"])
    result = measured(path, data, "", output_action=given, measures=[])
    assert fitted(result)["fit"]["kind"] == "orthogonal"
    table = geed.Table(parse_group("C4").elements, "channel_matrices", matrices, "mine")
    with pytest.raises(geed.GeedError, match="nothing of fields is measured"):
        measured(path, data, "", output_action={"fields": table}, measures=["latent-l2@pooled"])


def test_what_cannot_be_measured_is_said_before_anything_is_fitted(steered):
    path, data, _ = steered
    told = []
    with pytest.raises(geed.GeedError, match="channel-cos takes no such action"):
        measured(path, data, "linear", measures=["channel-cos@fields"], notify=told.append)
    assert told == []


def test_an_embedding_is_fitted_without_a_measure_asked_for(steered):
    path, data, _ = steered
    result = measured(path, data, "linear", "vector", fit_samples=18, measures=[])
    assert fitted(result)["fit"]["kind"] == "linear"
    assert any("softmax-kl" in note for note in result["notes"])


@pytest.mark.parametrize("typed", ["fit", "Fit:linear", "orthogonal", "fit:"])
def test_a_slip_in_the_kind_is_told_as_one(steered, typed):
    path, data, _ = steered
    with pytest.raises(geed.GeedError, match="Kinds: fit:permutation"):
        measured(path, data, "", output_action={"fields": typed})


def test_too_few_samples_are_not_told_to_take_more(steered):
    path, data, _ = steered
    with pytest.raises(geed.GeedError, match=r"no more exist outside D: give fewer --samples"):
        measured(path, data[:16], "linear", "vector", fit_samples=18)


def test_data_that_hold_samples_twice_are_measured_and_it_is_said(steered, tmp_path):
    path, data, _ = steered
    twice = np.concatenate([data[:12], data[:12]])
    result = measured(path, twice, "linear")
    assert any("contain duplicates" in note for note in result["notes"])
    write_fits(tmp_path / "a.npz", geed.fit_actions(path, twice, "C4", ["fields"], **FEW))
    given = {"fields": str(tmp_path / "a.npz")}
    again = measured(path, twice, "", output_action=given)
    assert any("contain duplicates" in note for note in again["notes"])
    once = measured(path, data, "linear")
    assert not any("contain duplicates" in note for note in once["notes"])


@pytest.fixture
def two(tmp_path):
    """A network of two images, and samples of both."""
    path = models.save(models.two_images(), tmp_path / "two.onnx")
    return path, {"u": images((3, 8, 8), 30), "v": images((2, 8, 8), 30, seed=1)}


BOTH = {"input": "u", "input_layout": {"u": "NCHW", "v": "NCHW"}}
#: The second image is moved too, or is fed as it is.
ONE = {"input": "u", "input_layout": {"u": "NCHW"}}
SEEN = "of the 10 samples of D are among those it was fitted to"


def written(path, data, folder, **options):
    """An action that was fitted to samples, in a file."""
    tables = geed.fit_actions(path, data, "C4", ["fields"], kind="linear", **FEW, **options)
    write_fits(folder / "fit.npz", tables)
    return {"fields": str(folder / "fit.npz")}


def test_an_overlap_is_found_whichever_input_is_acted_on(two, tmp_path):
    path, data = two
    given = written(path, data, tmp_path, **BOTH)
    # Seed 3 draws D of 6 and then the samples of the fit: 4 of the next D of 10 are of these.
    for name in "uv":
        own = {**BOTH, "input": name, "samples": 10, "output_action": given}
        with pytest.raises(geed.GeedError, match=f"4 {SEEN}"):
            measured(path, data, "", **own)
        kept = {**PLAIN, **BOTH, "input": name, "samples": 16}
        cache = tmp_path / f"{name}.geed"
        write_cache(path, data, "C4", cache, measures=["unexplained@fields"], **kept)
        with pytest.raises(geed.GeedError, match=f"4 {SEEN}"):
            measure_cache(cache, output_action=given, samples=10)


@pytest.mark.parametrize("how", [BOTH, ONE])
def test_samples_that_differ_in_another_input_are_others(two, tmp_path, how):
    """The acted-on one is a template, the same in all samples."""
    path, data = two
    data = {**data, "u": np.repeat(data["u"][:1], 30, axis=0)}
    others = {**data, "v": images((2, 8, 8), 30, seed=7)}
    given = {"output_action": written(path, data, tmp_path, **how), **how}
    with pytest.raises(geed.GeedError, match=f"4 {SEEN}"):
        measured(path, data, "", **given, samples=10)
    kept = {**PLAIN, **how, "samples": 16}
    write_cache(path, others, "C4", tmp_path / "a.geed", measures=["unexplained@fields"], **kept)
    fits = {"fields": "fit:linear"}
    parts = [measured(path, data, "linear", shard=f"{i}/2", **how) for i in (1, 2)]
    for result in (
        measured(path, others, "", **given, samples=10),
        measured(path, data, "linear", **how),
        geed.merge(parts),
        measure_cache(tmp_path / "a.geed", output_action=given["output_action"], samples=10),
        measure_cache(tmp_path / "a.geed", output_action=fits, samples=6, fit_samples=10),
    ):
        assert fitted(result)["fit"]["samples"] == 10
        assert not any("contain duplicates" in note for note in result["notes"])


@pytest.mark.parametrize("first", ["each", "one"])
def test_an_overlap_is_found_where_a_value_is_fed_for_each_sample_or_one_for_all(
    two, tmp_path, first
):
    """Only in one of the two runs do samples have several values; the acted-on one tells."""
    path, data = two
    fed = {"each": data["v"], "one": data["v"][:1]}
    options = {name: {**ONE, "feed": {"v": values}} for name, values in fed.items()}
    then = "one" if first == "each" else "each"
    given = written(path, data["u"], tmp_path, **options[first])
    for now in (first, then):
        with pytest.raises(geed.GeedError, match=f"4 {SEEN}"):
            measured(path, data["u"], "", output_action=given, samples=10, **options[now])
    others = measured(path, data["u"] + 1, "", output_action=given, samples=10, **options[then])
    assert fitted(others)["fit"]["samples"] == 10


def test_files_of_earlier_versions_know_samples_by_the_acted_on_input(two, tmp_path):
    path, data = two
    (name,) = written(path, data, tmp_path, **BOTH).values()
    with np.load(name) as archive:
        content = {key: archive[key] for key in archive.files}
    assert list(content.pop("fit_inputs")) == ["u", "v"]
    assert len(set(content.pop("fit_wholes"))) == 10
    np.savez(name, **content)
    given = {"output_action": {"fields": name}, **BOTH}
    with pytest.raises(geed.GeedError, match=f"4 {SEEN}"):
        measured(path, data, "", **given, samples=10)
    others = {**data, "u": data["u"] + 1}
    assert measured(path, others, "", **given, samples=10)["measurements"]
    np.savez(name, **content, fit_inputs=["u", "v"], fit_wholes=["a"])
    with pytest.raises(geed.GeedError, match="10 samples have 1 marks of all inputs"):
        geed.read_table(name)


def test_a_fit_is_made_and_judged_over_the_whole_grid(steered):
    path, data, _ = steered
    full, disk = (
        geed.fit_actions(path, data * mask, "C4", ["fields"], support=support, **FEW)[0]
        for support, mask in (("full", disk_of(7)), ("disk", 1))
    )
    np.testing.assert_allclose(full.values, disk.values, atol=1e-12)


def test_a_file_of_a_newer_format_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", format="onnx-geed/fit/9", elements=["e"], channels=[[0]])
    with pytest.raises(geed.GeedError, match="onnx-geed/fit/9"):
        read_tables(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", elements=["e"], channels=[[0]], fit_kind="bent")
    with pytest.raises(geed.GeedError, match="cannot be read"):
        read_tables(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz")
    with pytest.raises(geed.GeedError, match="needs 'elements'"):
        geed.read_table(tmp_path / "c.npz")


@pytest.mark.parametrize(
    ("name", "value"),
    [("fit_kind", "bent"), ("fit_marks", ["a"]), ("lambda", "much"), ("defect", [0.5])],
)
def test_a_file_that_does_not_say_what_it_was_fitted_to_is_refused(steered, tmp_path, name, value):
    path, data, _ = steered
    write_fits(tmp_path / "a.npz", geed.fit_actions(path, data, "C4", ["fields"], **FEW))
    with np.load(tmp_path / "a.npz") as archive:
        content = {key: archive[key] for key in archive.files} | {name: np.array(value)}
    np.savez(tmp_path / "b.npz", **content)
    with pytest.raises(geed.GeedError, match="the description of its fit cannot be read"):
        geed.read_table(tmp_path / "b.npz")


def test_a_fit_that_no_memory_holds_is_refused_before_it_runs(tmp_path):
    """One of 100,000 channels would take 800 GiB."""
    rng = np.random.default_rng(0)
    nodes = [
        onnx.helper.make_node("Flatten", ["x"], ["flat"]),
        onnx.helper.make_node("MatMul", ["flat", "w"], ["wide"]),
        onnx.helper.make_node("MatMul", ["wide", "v"], ["y"]),
    ]
    w, v = (rng.normal(size=s).astype(np.float32) for s in ((75, 100_000), (100_000, 3)))
    net = models.build(
        nodes,
        [onnx.numpy_helper.from_array(w, "w"), onnx.numpy_helper.from_array(v, "v")],
        [("x", onnx.TensorProto.FLOAT, ["N", 3, 5, 5])],
        [("y", onnx.TensorProto.FLOAT, ["N", 3])],
    )
    path = models.save(net, tmp_path / "wide.onnx")
    x = rng.normal(size=(9, 3, 5, 5)).astype(np.float32)
    few = {"samples": 2, "norm_samples": 3, "fit_samples": 3, "fit_anyway": True}
    told = r"a fit of wide, of 100,000 channels, takes .*GiB of memory: fit a smaller layer"
    with pytest.raises(geed.GeedError, match=told):
        geed.fit_actions(path, x, "C4", ["wide"], provider="cpu", **few)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ([-1, 192, *[1] * 6], r"y, \(N, 192, 1, .*: the graph does not show .* y=LETTERS, one"),
        ([-1, 192, *[1] * 61], r"y, of 63 axes: the graph does not show .* y=LETTERS, one"),
        ([-1, 12, 16], r"y, \(N, 12, 16\): the graph does not show .* y=NCT or y=NTC"),
    ],
)
def test_a_tensor_whose_axes_nothing_tells_is_not_fitted(tmp_path, shape, told):
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node("Reshape", ["x", "s"], ["y"])],
        "reshaped",
        [info("x", onnx.TensorProto.FLOAT, ["N", 3, 8, 8])],
        [info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.array(shape, np.int64), "s")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 10
    path = models.save(model, tmp_path / "m.onnx")
    with pytest.raises(geed.GeedError, match=told):
        geed.fit_actions(path, images((3, 8, 8), 20), "C4", ["y"], fit_anyway=True, **FEW)
