"""Networks of section 4.3, loaded from files of the form in which they are published."""

import argparse
import importlib.util
import re
import sys
from pathlib import Path

import pytest
from converting import FOLDER

torch = pytest.importorskip("torch")
# Importing torchvision needs what the converter does first.
if not all(importlib.util.find_spec(name) for name in ("timm", "torchvision")):
    pytest.skip("needs timm and torchvision", allow_module_level=True)

CLASSES = 9


@pytest.fixture(scope="module")
def section43():
    """The experiments are scripts beside each other, no package."""
    folder = str(Path(__file__).parents[2] / "benchmarks" / "paper")
    sys.path.insert(0, folder)
    import section43

    yield section43
    sys.path.remove(folder)


def as_it_is(state):
    return state


def with_dots(state):
    """DenseNet's file is older than torchvision's names, norm.1 for norm1, and than counters."""
    return {
        re.sub(r"(denselayer\d+\.(?:norm|relu|conv))(\d)", r"\1.\2", k): v
        for k, v in state.items()
        if not k.endswith("num_batches_tracked")
    }


def of_its_authors(state):
    """LeViT's file has modules of other names in the same order, and indices beside them."""
    named = {f"blocks.{i}.{k.rpartition('.')[2]}": v for i, (k, v) in enumerate(state.items())}
    return {"model": {**named, "blocks.0.attention_bias_idxs": torch.zeros(1, 1)}}


PUBLISHED = {
    "resnet50": as_it_is,
    "alexnet": as_it_is,
    "densenet121": with_dots,
    "levit192": of_its_authors,
}


def test_every_network_of_the_paper_is_tried(section43):
    assert PUBLISHED.keys() == section43.NETWORKS["paper"].keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_all_but_the_classifier_comes_from_the_file(section43, tmp_path, name):
    network = section43.NETWORKS["paper"][name]
    # Random weights under the names of the library, then under those of the file.
    drawn = section43.make(network, 1000, None, 1).state_dict()
    weights = {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in drawn.items()}
    torch.save(PUBLISHED[name](weights), tmp_path / "published.pth")
    net = section43.make(network, CLASSES, tmp_path / "published.pth", 0)
    state = net.state_dict()
    assert state.keys() == weights.keys()
    new = {k for k in weights if state[k].shape != weights[k].shape}
    head = {k for k in weights if k.startswith(network.head or "head")}
    assert new
    assert new <= head
    kept = [k for k in weights if k not in head and not k.endswith("num_batches_tracked")]
    assert all(torch.equal(state[k], weights[k]) for k in kept)
    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    assert net.eval()(torch.zeros(1, 3, 224, 224)).shape == (1, CLASSES)


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    modules = importlib.import_module("_torch_modules")
    modules.import_torchvision()
    return modules


def made(modules, name, shape=None, **kwargs):
    settings = argparse.Namespace(pretrained=False, input_shape=shape)
    make, known = modules.torchvision_model(name, settings, kwargs)
    with torch.device("meta"):
        return make(**kwargs), known


def test_a_network_of_torchvision_is_the_one_that_its_weights_are_for(modules):
    for name in ("googlenet", "inception_v3"):
        # As torchvision builds both where it is asked for its weights.
        assert made(modules, name)[0].transform_input is True
        assert made(modules, name, transform_input=False)[0].transform_input is False
    for name, shape, size in (
        ("vit_h_14", None, 518),
        ("vit_b_16", ["3,64,64"], 64),
        ("vit_b_16", None, 224),
    ):
        net, known = made(modules, name, shape)
        assert net.image_size == size
        assert known["shape"] == (3, size, size)


def test_geometry_is_that_of_timms_own_transform(modules):
    timm_data = pytest.importorskip("timm.data")
    mean_and_more = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic"}
    for mode, share in (("center", 0.875), ("squash", 0.9), ("squash", 1.0)):
        config = {"crop_mode": mode, "crop_pct": share, **mean_and_more}
        steps = timm_data.create_transform((3, 240, 240), **config).transforms
        found = modules.timm_geometry(config, (240, 240))
        size = steps[0].size
        assert found["resize"] == (list(size) if isinstance(size, tuple) else size)
        assert [found["crop"]] * 2 == list(steps[1].size)
    tall = modules.timm_geometry({"crop_mode": "squash", "crop_pct": 1.0}, (1024, 768))
    assert tall["resize"] == tall["crop"] == [1024, 768]


def test_geometry_that_no_file_can_state_is_left_out_and_told(modules, capfd):
    assert modules.timm_geometry({"crop_mode": "border", "crop_pct": 1.0}, (546, 546)) == {}
    assert "crop_mode=border" in capfd.readouterr().err


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_file_of_another_network_is_refused(section43, tmp_path, name):
    other = section43.make(section43.NETWORKS["small"]["resnet18"], CLASSES, None, 0).state_dict()
    torch.save(other, tmp_path / "other.pth")
    import _options  # beside the converters, which the call above has found

    with pytest.raises(_options.Problem, match=r"--checkpoint .*other\.pth"):
        section43.make(section43.NETWORKS["paper"][name], CLASSES, tmp_path / "other.pth", 0)
