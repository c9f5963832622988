from __future__ import annotations

import csv
import datetime
import io
import json
import math
import os
import stat
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from recording import measurement

from onnx_geed import results
from onnx_geed.errors import GeedError
from onnx_geed.files import check_writable, write_json
from onnx_geed.results import mean_interval, ranking_value, read_result, result, to_csv
from onnx_geed.text import to_json

ELEMENTS = ("e", "r1")
# Per sample 2 and 5; per element 2 and 5; mean 3.5.
DEVIATIONS = [[1.0, 3.0], [3.0, 7.0]]


def record(**changes):
    fields = {
        "measure": "softmax-kl",
        "layer": "logits",
        "layout": "NK",
        "output_action": "trivial",
        "deviations": DEVIATIONS,
        "elements": ELEMENTS,
    }
    return measurement(**(fields | changes))


def latent(m, measure="latent-l2", **changes):
    return record(measure=measure, normaliser=m, norm_samples=200, **changes)


def result_of(*measurements, **changes):
    fields = {
        "command": "onnx-geed measure m.onnx --data x.npy --group C2",
        "software": {"onnx-geed": "0"},
        "model": {"path": "m.onnx", "sha256": "ab", "opset": 17, "producer": "p"},
        "data": {
            "source": "x.npy",
            "fingerprint": "cd",
            "available": 9,
            "indices": [4, 2],
            "names": None,
            "labels": [1, 0],
        },
        "group": {
            "name": "C2",
            "order": 2,
            "elements": list(ELEMENTS),
            "exact": [True, True],
            "interpolation": "bilinear",
            "support": "full",
        },
        "runtime": {"provider": "cpu", "seconds": 0.5},
        "seed": 0,
        "measurements": measurements or (record(),),
    }
    return result(**(fields | changes))


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def floats_in(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [x for v in value for x in floats_in(v)]
    return [] if value is None or isinstance(value, str | bool | int) else [value]


class TestMeasurement:
    def test_value_and_parts_of_a_record_worked_by_hand(self):
        entry = record()
        assert entry["value"] == 3.5
        assert entry["per_sample"] == [2.0, 5.0]
        assert entry["per_element"] == {"e": 2.0, "r1": 5.0}
        assert entry["deviations"] == DEVIATIONS
        assert entry["stderr"] == pytest.approx(1.5)  # s = 3/√2, over √2
        assert entry["ci95"] == pytest.approx([3.5 - 1.5 * 12.706204736, 3.5 + 1.5 * 12.706204736])
        assert entry["samples"] == 2
        assert (entry["interval"], entry["zero_pairs"]) == ("t", 0.0)
        for absent in ("normaliser", "unnormalised", "norm_samples", "exact", "references"):
            assert entry[absent] is None
        assert entry["warnings"] == []

    def test_all_but_the_deviations_is_divided_by_m(self):
        entry = latent(2.0)
        assert entry["value"] == 1.75
        assert entry["unnormalised"] == 3.5
        assert entry["normaliser"] == 2.0
        assert entry["norm_samples"] == 200
        assert entry["per_sample"] == [1.0, 2.5]
        assert entry["per_element"] == {"e": 1.0, "r1": 2.5}
        assert entry["deviations"] == DEVIATIONS
        assert entry["stderr"] == pytest.approx(0.75)
        assert entry["warnings"] == []

    def test_each_part_of_trials_has_the_interval_of_its_own_elements(self):
        """Of four elements, two are exact, of which one counts: Wilson's, and not Student t."""
        flips = np.array([[0, 1, 1, 0], [0, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]])
        entry = results.make_record(
            results.OrbitDeviations(flips, ("e", "r1", "r2", "r3"), skipped=1),
            **{"measure": "flip-rate", "layer": "y", "layout": "NK", "output_action": "trivial"},
            exact=results.OrbitDeviations(flips[:, [0, 2]], ("e", "r2"), skipped=1),
            half=results.OrbitDeviations(flips[:, [0, 2]], ("e", "r2"), skipped=1),
            trials=True,
        )
        p, n, z = 0.8, 5, 1.959963984540054
        root = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        ends = [(p + z * z / (2 * n) + s * root) / (1 + z * z / n) for s in (-1, 1)]
        assert entry["interval"] == "t"
        assert entry["exact"]["interval"] == "wilson"
        assert entry["exact"]["ci95"] == pytest.approx(ends, abs=1e-12)
        assert entry["half"]["ci95"] == pytest.approx(ends, abs=1e-12)

    def test_a_half_that_differs_alike_in_all_samples_is_not_surely_another(self):
        flips = np.array([[0, 0, 1]] * 2)
        entry = results.make_record(
            results.OrbitDeviations(flips, ("e", "r1", "r2"), skipped=1),
            **{"measure": "flip-rate", "layer": "y", "layout": "NK", "output_action": "trivial"},
            half=results.OrbitDeviations(flips[:, [0, 2]], ("e", "r2"), skipped=1),
            trials=True,
        )
        assert entry["half"]["difference"] == -0.5
        assert entry["half"]["difference_ci95"][1] > 0
        assert not entry["warnings"]

    @pytest.mark.parametrize(("measure", "power"), [("output-l2", 1), ("unexplained", 2)])
    def test_what_differs_by_more_than_rounding_reacts(self, measure, power):
        """Vectors of norm 10,000 in single precision are rounded by about 0.001."""
        for apart, reacts in ((1.0, True), (0.05, True), (0.005, False)):
            entry = record(
                measure=measure,
                deviations=np.full((3, 2), (apart / 2) ** power),
                normaliser=apart**power,
                between=np.full((3, 2), apart**power),
                reference_norm=1e4,
            )
            assert (entry["relative"] is not None) is reacts
            if reacts:
                assert entry["relative"] == pytest.approx(0.5**power)
            assert any("hardly reacts" in w for w in entry["warnings"]) is not reacts

    def test_the_interval_is_not_clipped_to_the_range(self):
        low, _ = record(deviations=[[0.0, 0.0], [0.0, 1.0]])["ci95"]
        assert low < 0

    @pytest.mark.parametrize(
        ("m", "norm_samples", "says"), [(0.0, 200, "M is 0"), (None, 1, "two points, 1 given")]
    )
    def test_without_m_the_unnormalised_value_stands_alone(self, m, norm_samples, says):
        entry = record(measure="latent-l2", normaliser=m, norm_samples=norm_samples)
        assert entry["value"] is entry["ci95"] is entry["stderr"] is None
        assert entry["unnormalised"] == 3.5
        assert entry["normaliser"] == m
        assert entry["per_sample"] == [2.0, 5.0]
        assert [says in w for w in entry["warnings"]] == [True]

    def test_an_m_too_small_to_divide_by_counts_as_none(self):
        entry = latent(1e-310)
        assert entry["value"] is None
        assert entry["unnormalised"] == 3.5
        assert "1e-310" in entry["warnings"][0]
        to_json(result_of(entry))

    def test_a_mean_cosine_near_zero_is_said_to_be_ill_conditioned(self):
        def ill_conditioned(m, measure="latent-cos"):
            return [w for w in latent(m, measure)["warnings"] if "ill-conditioned" in w]

        assert len(ill_conditioned(0.049)) == len(ill_conditioned(-0.049)) == 1
        assert ill_conditioned(0.05) == ill_conditioned(-0.05) == []
        assert (
            ill_conditioned(0.01, "latent-l2") == []
        )  # a length has a unit, so that 0.05 means nothing

    def test_a_negative_m_reverses_the_order_and_is_said_to(self):
        entry = latent(-0.5, "latent-cos")
        assert entry["value"] == -7.0
        assert any("reversed" in w for w in entry["warnings"])
        assert ranking_value(entry) == (3.5, "unnormalised")
        low, high = entry["ci95"]
        assert low < -7.0 < high

    def test_ranking_takes_the_value_where_it_can(self):
        assert ranking_value(record()) == (3.5, "value")
        assert ranking_value(latent(2.0)) == (1.75, "value")
        assert ranking_value(latent(0.0)) == (3.5, "unnormalised")

    def test_the_exact_subgroup_has_the_same_fields_with_the_same_m(self):
        part = [[1.0, 2.0], [3.0, 6.0]]
        entry = record(
            deviations=np.arange(8.0).reshape(2, 4),
            elements=("e", "r1", "r2", "r3"),
            measure="latent-l2",
            normaliser=2.0,
            norm_samples=7,
            exact=((0, 2), part),
        )
        exact = entry["exact"]
        assert exact["elements"] == ["e", "r2"]
        assert exact["value"] == 1.5
        assert exact["unnormalised"] == 3.0
        assert exact["normaliser"] == 2.0
        assert exact["per_sample"] == [0.75, 2.25]
        assert exact["per_element"] == {"e": 1.0, "r2": 2.0}
        assert exact["deviations"] == part
        assert exact["ci95"] == pytest.approx(mean_interval([0.75, 2.25]))
        assert exact["stderr"] == pytest.approx(0.75)

    def test_one_sample_has_a_value_and_no_interval(self):
        for interval in ("t", "bootstrap"):
            entry = record(deviations=[[1.0, 3.0]], interval=interval)
            assert entry["value"] == 2.0
            assert entry["ci95"] is entry["stderr"] is None

    def test_the_bootstrap_is_taken_where_asked_for(self):
        deviations = np.random.default_rng(0).lognormal(0, 1, (30, 2))
        entry = record(deviations=deviations, interval="bootstrap", seed=5)
        assert entry["interval"] == "bootstrap"
        oracle = mean_interval(deviations.mean(axis=1), "bootstrap", seed=5)
        assert entry["ci95"] == list(oracle)

    def test_numbers_are_pythons_own(self):
        entry = latent(
            np.float32(2.0),
            deviations=np.ones((3, 2), np.float32),
            zero_pairs=np.float32(0.5),
            exact=((0, 1), np.ones((3, 2), np.float32)),
        )
        numbers = floats_in(entry)
        assert len(numbers) > 20
        assert {type(x) for x in numbers} == {float}

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"deviations": [[1.0, math.nan], [1, 1]]}, "sample 0 under r1"),
            ({"deviations": [[1.0, 1], [-math.inf, 1]]}, "sample 1 under e"),
            ({"exact": ((0,), [[1.0], [math.nan]])}, "sample 1 under e"),
            ({"normaliser": math.nan}, "M is NaN"),
            ({"zero_pairs": math.inf}, "zero pairs is NaN or infinite"),
            ({"deviations": np.empty((0, 2))}, "at least one sample"),
            ({"deviations": [[1.0, 2.0, 3.0]]}, "found the shape (1, 3)"),
        ],
    )
    def test_what_is_no_number_is_refused_naming_measure_and_layer(self, changes, says):
        with pytest.raises(GeedError) as error:
            record(**changes)
        assert "softmax-kl@logits" in one_line(error)
        assert says in str(error.value)

    def test_an_unknown_interval_is_refused(self):
        with pytest.raises(GeedError, match="no interval is called 'bca'"):
            record(interval="bca")

    @settings(deadline=None)
    @given(
        arrays(
            np.float64,
            st.tuples(st.integers(1, 6), st.integers(1, 5)),
            elements=st.floats(-1e9, 1e9, allow_subnormal=False),
        ),
        st.one_of(st.none(), st.floats(-10, 10)),
    )
    def test_samples_and_elements_both_average_to_the_value(self, deviations, m):
        names = [f"g{i}" for i in range(deviations.shape[1])]
        entry = latent(m, deviations=deviations, elements=names)
        value = entry["unnormalised"] if entry["value"] is None else entry["value"]
        size = max(map(abs, [*entry["per_sample"], *entry["per_element"].values(), 1e-300]))
        assert np.mean(entry["per_sample"]) == pytest.approx(value, abs=1e-12 * size)
        assert np.mean([*entry["per_element"].values()]) == pytest.approx(value, abs=1e-12 * size)
        to_json(result_of(entry))


class TestFiles:
    def test_a_result_says_its_schema_and_when_it_was_made(self):
        content = result_of()
        assert content["schema"] == "onnx-geed/result/1"
        created = datetime.datetime.fromisoformat(content["created"])
        assert created.utcoffset() == datetime.timedelta(0)
        age = datetime.datetime.now(datetime.UTC) - created
        assert datetime.timedelta(0) <= age < datetime.timedelta(minutes=1)
        assert list(content)[:3] == ["schema", "created", "command"]

    @settings(
        max_examples=50,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        arrays(
            np.float64,
            st.tuples(st.integers(1, 4), st.just(2)),
            elements=st.floats(
                allow_nan=False, allow_infinity=False, max_value=1e100, min_value=-1e100
            ),
        ),
        st.text(max_size=20),
    )
    def test_every_float_and_name_reads_back_as_it_was(self, tmp_path, deviations, layer):
        data = result_of()["data"] | {"indices": [4, 2, 0, 1], "names": None, "labels": None}
        before = result_of(record(deviations=deviations, layer=layer), data=data)
        write_json(before, tmp_path / "r.json")
        after = read_result(tmp_path / "r.json")
        assert after.pop("file") == str(tmp_path / "r.json")
        assert after == before
        again = np.array(after["measurements"][0]["deviations"])
        assert again.tobytes() == deviations.tobytes()  # the sign of zero too

    def test_a_file_name_that_is_not_utf8_comes_through(self, tmp_path):
        name = os.fsdecode(b"digits-\xff.png")
        write_json(
            result_of(data=result_of()["data"] | {"names": [name, "é"]}), tmp_path / "r.json"
        )
        assert read_result(tmp_path / "r.json")["data"]["names"] == [name, "é"]

    def test_numpys_scalars_are_written_as_numbers(self):
        text = to_json(result_of(data=result_of()["data"] | {"labels": [np.int64(3), np.uint8(4)]}))
        assert json.loads(text)["data"]["labels"] == [3, 4]

    def test_a_row_of_deviations_is_a_line(self):
        assert "\n    [1.0, 3.0],\n    [3.0, 7.0]\n" in to_json(result_of())

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_nan_is_never_written_and_its_place_is_named(self, tmp_path, bad):
        (tmp_path / "r.json").write_text("old")
        with pytest.raises(GeedError, match=r"softmax-kl@logits, references, numeric: is NaN or"):
            write_json(result_of(record() | {"references": {"numeric": bad}}), tmp_path / "r.json")
        assert (tmp_path / "r.json").read_text() == "old"
        assert os.listdir(tmp_path) == ["r.json"]

    def test_writing_replaces_a_file_and_leaves_nothing_else(self, tmp_path):
        path = tmp_path / "r.json"
        path.write_text("old")
        check_writable(path)
        assert path.read_text() == "old"
        write_json(result_of(), path)
        assert os.listdir(tmp_path) == ["r.json"]
        assert path.read_text().endswith("}\n")
        assert stat.S_IMODE(path.stat().st_mode) & 0o044  # others may read it, as with any file

    def test_a_link_is_written_through(self, tmp_path):
        (tmp_path / "real.json").write_text("old")
        (tmp_path / "link.json").symlink_to("real.json")
        write_json(result_of(), tmp_path / "link.json")
        assert (tmp_path / "link.json").is_symlink()
        assert read_result(tmp_path / "real.json")["model"]["path"] == "m.onnx"

    def test_a_pipe_is_written_to_and_stays_a_pipe(self, tmp_path):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        check_writable(pipe)
        got = []
        reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
        reader.start()
        write_json(result_of(), pipe)
        reader.join(timeout=10)
        assert json.loads(got[0])["seed"] == 0
        assert stat.S_ISFIFO(pipe.stat().st_mode)

    @pytest.mark.parametrize("where", ["", "none/r.json", "file/r.json", "x" * 300])
    def test_a_path_that_cannot_be_written_is_refused_before_and_at_writing(self, tmp_path, where):
        (tmp_path / "file").write_text("")
        path = tmp_path / where
        for attempt in (check_writable, lambda p: write_json(result_of(), p)):
            with pytest.raises(GeedError) as error:
                attempt(path)
            said = one_line(error)
            assert str(path) in said or "file name too long" in said
        assert os.listdir(tmp_path) == ["file"]

    def test_a_write_that_fails_half_way_leaves_the_old_file_and_no_other(
        self, tmp_path, monkeypatch
    ):
        path = tmp_path / "r.json"
        path.write_text("old")

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(GeedError, match="No space left on device"):
            write_json(result_of(), path)
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["r.json"]

    def test_an_interrupted_write_leaves_no_unfinished_file(self, tmp_path, monkeypatch):
        def interrupt(descriptor):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_json(result_of(), tmp_path / "r.json")
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "the file is empty"),
            (b"{", "is not JSON"),
            (b"\xff\xfe\x00", "not UTF-8"),
            (b"[1, 2]", "without a schema"),
            (b"{}", "without a schema"),
            (b'{"schema": NaN}', "NaN is not a number that JSON knows"),
            (b'{"schema": "onnx-geed/result/2"}', "upgrade onnx-geed"),
            (b'{"schema": "onnx-geed/aggregate/1"}', "onnx-geed measure --out wrote"),
            (b'{"schema": "onnx-geed/result/1"}', "lacks created, command"),
            (b"[" * 100_000, "is not JSON"),
        ],
    )
    def test_what_is_no_result_is_refused_in_one_line(self, tmp_path, content, says):
        path = tmp_path / "r.json"
        path.write_bytes(content)
        with pytest.raises(GeedError) as error:
            read_result(path)
        assert one_line(error).startswith(f"{path}: ")
        assert says in str(error.value)

    @pytest.mark.parametrize(
        ("part", "says"),
        [
            ("measurements", "lacks measurements"),
            ("group", "lacks group"),
            ("data", "lacks data"),
        ],
    )
    def test_a_result_without_a_part_is_refused(self, tmp_path, part, says):
        broken = result_of()
        del broken[part]
        write_json(broken, tmp_path / "r.json")
        with pytest.raises(GeedError, match=says):
            read_result(tmp_path / "r.json")

    def test_a_record_without_a_field_is_refused(self, tmp_path):
        broken = record()
        del broken["per_sample"]
        write_json(result_of(record(), broken), tmp_path / "r.json")
        with pytest.raises(GeedError, match=r"measurements\[1\] lacks per_sample"):
            read_result(tmp_path / "r.json")

    def test_no_such_file_and_a_folder_are_told_apart(self, tmp_path):
        with pytest.raises(GeedError, match="no such file"):
            read_result(tmp_path / "none.json")
        with pytest.raises(GeedError, match="is a folder; give a file"):
            read_result(tmp_path)


class TestCsv:
    def test_a_line_a_measurement_with_numbers_in_full(self):
        exact = ((0,), [[1 / 3], [2 / 3]])
        first = record(deviations=[[0.1, 1 / 3], [1e-17, 2.0]], layer='a,"b"', exact=exact)
        second = latent(0.0)
        rows = [*csv.DictReader(io.StringIO(to_csv(result_of(first, second))))]
        assert [r["layer"] for r in rows] == ['a,"b"', "logits"]
        assert float(rows[0]["value"]) == first["value"]
        assert [float(rows[0]["ci95_low"]), float(rows[0]["ci95_high"])] == first["ci95"]
        assert float(rows[0]["exact_value"]) == first["exact"]["value"]
        assert float(rows[0]["exact_ci95_high"]) == first["exact"]["ci95"][1]
        assert rows[1]["value"] == rows[1]["ci95_low"] == rows[1]["exact_value"] == ""
        assert float(rows[1]["unnormalised"]) == 3.5
        assert "M is 0" in rows[1]["warnings"]
        assert {r["model"] for r in rows} == {"m.onnx"}

    def test_references_have_columns_which_are_empty_without_them(self):
        names = ("input_round_trip", "output_round_trip", "numeric", "untrained")
        first, second = record(), record(layer="b")
        first["references"] = {
            name: {"value": i / 3, "ci95": None, "unnormalised": None, "samples": 2}
            for i, name in enumerate(names[:3])
        }
        rows = [*csv.DictReader(io.StringIO(to_csv(result_of(first, second))))]
        assert [rows[0][name] for name in names] == ["0.0", repr(1 / 3), repr(2 / 3), ""]
        assert [rows[1][name] for name in names] == [""] * 4


def test_means_do_not_depend_on_how_deviations_lie_in_memory():
    rows = np.random.default_rng(5).random((33, 4))
    whole = {"measure": "softmax-kl", "layer": "a", "layout": "NK", "output_action": "trivial"}
    one, other = (
        measurement(**whole, deviations=a, elements=list("egfh")) for a in (rows, rows.copy("F"))
    )
    assert one == other
