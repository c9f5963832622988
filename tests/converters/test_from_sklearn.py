"""A scikit-learn pipeline becomes an ONNX file that measures as scikit-learn computes."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from converting import assert_equal_to_hooks, converted, imported, refused

from onnx_geed import measure

pytest.importorskip("sklearn", reason="needs scikit-learn and skl2onnx")
pytest.importorskip("skl2onnx", reason="needs scikit-learn and skl2onnx")

pytestmark = pytest.mark.filterwarnings("ignore:.*hasn't converged")

NETS = """
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

X, Y = load_digits(return_X_y=True)
X = X[:600] / 16
Y = Y[:600]


def net():
    layers = MLPClassifier((30, 20), max_iter=80, random_state=0)
    return make_pipeline(StandardScaler(), layers).fit(X, Y)


def linear():
    return make_pipeline(PCA(12, random_state=0), LogisticRegression(max_iter=300)).fit(X, Y)


def forest():
    return RandomForestClassifier(10, random_state=0).fit(X, Y)


def scores():
    return LinearSVC(random_state=0).fit(X, Y)


def raw():
    return MLPClassifier()
"""


@pytest.fixture(scope="module")
def trained():
    space = {}
    exec(NETS, space)
    return space


@pytest.fixture
def box(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


@pytest.fixture(scope="module")
def digits(trained):
    return trained["X"][:8].reshape(8, 1, 8, 8).astype(np.float32)


def test_what_is_measured_is_what_the_pipeline_computes(box, trained, digits):
    import joblib

    net = trained["net"]()
    joblib.dump(net, box / "net.joblib")
    assert "--trust" in refused("sklearn", box, "net.joblib", "--input-shape", "1,8,8")
    file = converted("sklearn", box, "net.joblib", "--trust", "--input-shape", "1,8,8")

    def hooks(x):
        flat = x.reshape(len(x), -1)
        hidden = net[0].transform(flat)
        layers = list(zip(net[1].coefs_, net[1].intercepts_, strict=True))
        for weight, bias in layers[:-1]:
            hidden = np.maximum(hidden @ weight + bias, 0)
        return {"latent": hidden, "output": net.predict_proba(flat)}

    for group in ("C8", "flip-h"):
        assert_equal_to_hooks(file, group, digits, hooks, kind="probabilities")


def test_a_step_is_a_layer_and_classes_are_named(box, trained, digits):
    net = trained["linear"]()
    file = converted(
        *("sklearn", box, "nets.py:linear", "--input-shape", "1,8,8", "--latent", "pca")
    )

    def hooks(x):
        flat = x.reshape(len(x), -1)
        return {"latent": net[0].transform(flat), "output": net.predict_proba(flat)}

    assert_equal_to_hooks(file, "C4", digits, hooks, kind="probabilities")
    metadata = {p.key: p.value for p in onnx.load(file).metadata_props}
    assert metadata["onnx_geed.classes"] == str(list("0123456789")).replace("'", '"')


def test_a_forest_has_probabilities_and_no_latent(box, digits):
    file = converted("sklearn", box, "nets.py:forest", "--input-shape", "1,8,8")
    result = measure(file, digits, "C4")
    assert [m["measure"] for m in result["measurements"]] == ["softmax-kl"]
    assert 0 < result["measurements"][0]["value"] <= np.log(4)


def test_decision_values_are_logits(box, trained, digits):
    svm = trained["scores"]()
    file = converted("sklearn", box, "nets.py:scores", "--input-shape", "1,8,8")

    def hooks(x):
        flat = x.reshape(len(x), -1)
        return {"latent": flat, "output": svm.decision_function(flat)}

    assert_equal_to_hooks(file, "C4", digits, hooks)


def test_what_does_not_fit_is_told_and_leaves_no_file(box):
    assert "not fitted" in refused("sklearn", box, "nets.py:raw")
    assert "64 features" in refused("sklearn", box, "nets.py:net", "--input-shape", "1,9,9")
    asked = refused("sklearn", box, "nets.py:net")
    assert "--input-shape is needed" in asked
    assert "--input-shape 1,8,8 for an image" in asked
    assert "linera" in refused("sklearn", box, "nets.py:linera")


ESTIMATORS = {
    "svm": "make_pipeline(StandardScaler(), LinearSVC())",
    "pair": "make_pipeline(StandardScaler(), SVC())",
    "trees": "HistGradientBoostingClassifier(max_iter=3)",
    "vote": "VotingClassifier([('a', LogisticRegression())], voting='soft')",
}


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_estimators_that_skl2onnx_has_whims_about(tmp_path, digits, name):
    (tmp_path / "nets.py").write_text(
        "from sklearn.datasets import load_digits\n"
        "from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "from sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import StandardScaler\n"
        "from sklearn.svm import SVC, LinearSVC\n"
        "def net():\n"
        "    x, y = load_digits(return_X_y=True)\n"
        "    x, y = x[:300] / 16, y[:300]\n"
        f"    return {ESTIMATORS[name]}.fit(x, y % 2 if {name == 'pair'} else y)\n"
    )
    net = imported(tmp_path / "nets.py").net()
    file = converted("sklearn", tmp_path, "nets.py:net", "--input-shape", "1,8,8")
    method = "predict_proba" if hasattr(net, "predict_proba") else "decision_function"
    expected = getattr(net, method)(digits.reshape(len(digits), -1)).reshape(len(digits), -1)
    session = onnxruntime.InferenceSession(str(file))
    (output,) = session.run(None, {"input": digits})
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


SCORED = {
    "RidgeClassifier()": ("logits", ["no", "so", "yes"]),
    "make_pipeline(LinearSVC())": ("logits", ["no", "so", "yes"]),
    "SVC()": ("logits", ["no", "so", "yes"]),
    # Three pairs of three classes, which are no scores of these.
    "make_pipeline(SVC(decision_function_shape='ovo'))": ("embedding", None),
    "RidgeClassifier(alpha=2)": ("logits", ["no", "yes"]),
}


@pytest.mark.parametrize("code", sorted(SCORED))
def test_scores_of_classes_have_names_and_those_of_pairs_are_none(tmp_path, code):
    kind, names = SCORED[code]
    labels = "np.array(['no', 'so', 'yes'])[Y]"
    if names is not None and len(names) == 2:
        labels = "np.where(Y > 0, 'yes', 'no')"
    (tmp_path / "nets.py").write_text(
        "import numpy as np\n"
        "from sklearn.linear_model import RidgeClassifier\n"
        "from sklearn.pipeline import make_pipeline\n"
        "from sklearn.svm import SVC, LinearSVC\n"
        "X = np.random.default_rng(0).random((60, 16))\n"
        "Y = X[:, :3].argmax(1)\n"
        f"def net():\n    return {code}.fit(X, {labels})\n"
    )
    file = converted("sklearn", tmp_path, "nets.py:net", "--input-shape", "4,4")
    found = {p.key: p.value for p in onnx.load(file).metadata_props}
    assert found["onnx_geed.output_kind"] == kind
    assert json.loads(found.get("onnx_geed.classes", "null")) == names


def test_labels_alone_are_refused(box):
    (box / "hard.py").write_text(
        "from nets import linear\n"
        "from sklearn.ensemble import VotingClassifier\n"
        "from sklearn.datasets import load_digits\n"
        "def net():\n"
        "    x, y = load_digits(return_X_y=True)\n"
        "    return VotingClassifier([('a', linear())]).fit(x[:300], y[:300])\n"
    )
    assert "only predicts labels" in refused("sklearn", box, "hard.py:net")


def test_features_are_a_line_or_a_set_where_a_layout_says_so(box):
    shape = ("sklearn", box, "nets.py:linear", "--input-shape")
    for lengths, layout in (("64", "NT"), ("16,4", "NPC"), ("8,8", None), ("1,4,4,4", "NCDHW")):
        file = converted(*shape, lengths, *(("--input-layout", layout) if layout else ()))
        found = {p.key: p.value for p in onnx.load(file).metadata_props}
        assert found["onnx_geed.input_layout"] == (layout or "NHW")
    assert "names 2 axes" in refused(*shape, "16,4", "--input-layout", "NP")
