"""A JAX model becomes an ONNX file whose measures are those of JAX's own intermediates."""

import numpy as np
import onnx
import onnxruntime
import pytest
from converting import assert_equal_to_hooks, converted, refused

jax = pytest.importorskip("jax", reason="needs JAX, jax2onnx, Flax and Equinox")
pytest.importorskip("jax2onnx", reason="needs JAX, jax2onnx, Flax and Equinox")

NETS = """
import equinox as eqx
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


class Block(linen.Module):
    features: int

    @linen.compact
    def __call__(self, x, train=True):
        x = linen.Conv(self.features, (3, 3))(x)
        return linen.relu(linen.BatchNorm(use_running_average=not train)(x))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x, train=True):
        x = linen.max_pool(Block(5, name="first")(x, train), (2, 2), (2, 2))
        x = Block(6, name="second")(x, train).mean((1, 2))
        x = linen.Dropout(0.5, deterministic=not train)(linen.relu(linen.Dense(9)(x)))
        return linen.Dense(4, name="head")(x)


class Permuted(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Conv(5, (3, 3), name="first")(jnp.transpose(x, (0, 2, 3, 1)))
        return linen.Dense(4, name="head")(x.mean((1, 2)))


class Attention(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Conv(8, (3, 3), (3, 3), name="patch")(x).reshape(x.shape[0], 9, 8)
        x = x + linen.MultiHeadDotProductAttention(2, name="attend")(x, x)
        x = linen.GroupNorm(2, name="norm")(x.reshape(x.shape[0], 3, 3, 8))
        return linen.Dense(4, name="head")(x.mean((1, 2)))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 5, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(5, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(5, 4, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        return self.head(self.drop(x.mean((1, 2))))


class Equinox(eqx.Module):
    convs: list
    head: eqx.nn.Linear

    def __init__(self, key):
        a, b, c = jax.random.split(key, 3)
        self.convs = [
            eqx.nn.Conv2d(1, 5, 3, padding=1, key=a),
            eqx.nn.Conv2d(5, 6, 3, padding=1, key=b),
        ]
        self.head = eqx.nn.Linear(6, 4, key=c)

    def __call__(self, x):
        for conv in self.convs:
            x = jax.nn.relu(conv(x))
        return self.head(x.mean((1, 2)))


WEIGHTS = np.random.default_rng(0).normal(size=(81, 4)).astype("f4") / 9


def plain(x):
    return jax.nn.softmax(jnp.tanh(x.reshape(x.shape[0], -1)) @ WEIGHTS)


def pair():
    return lambda parameters, x: plain(x) ** parameters, 1.0


class Graph(linen.Module):
    @linen.compact
    def __call__(self, nodes, adj):
        nodes = linen.relu(adj @ linen.Dense(8, name="first")(nodes))
        return adj @ linen.Dense(4, name="second")(nodes)


class Words(eqx.Module):
    words: eqx.nn.Embedding

    def __init__(self, key):
        self.words = eqx.nn.Embedding(30, 8, key=key)

    def __call__(self, ids):
        return jax.vmap(self.words)(ids).mean(0)


def no_module():
    return 3
"""


@pytest.fixture(scope="module")
def nets():
    space = {"__name__": "nets"}
    exec(NETS, space)
    return space


@pytest.fixture
def box(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).random((6, 9, 9, 1)).astype(np.float32)


def planar(x):
    return np.asarray(x).transpose(0, 3, 1, 2)


def test_linen(box, nets, images):
    from flax import serialization

    net = nets["Linen"]()
    variables = net.init(jax.random.PRNGKey(1), images[:1], train=False)
    moved = jax.tree.map(lambda a: a + 0.3, variables["batch_stats"])
    variables = {**variables, "batch_stats": moved}
    (box / "net.msgpack").write_bytes(serialization.to_bytes(variables))
    file = converted(
        *("jax", box, "nets.py:Linen", "--checkpoint", "net.msgpack", "--input-shape", "9,9,1"),
        *("--output-kind", "logits"),
    )

    def hooks(x):
        output, state = net.apply(
            variables, x, train=False, capture_intermediates=True, mutable=["intermediates"]
        )
        seen = state["intermediates"]
        return {
            "first": planar(seen["first"]["__call__"][0]),
            "second": planar(seen["second"]["__call__"][0]),
            "latent": np.maximum(seen["Dense_0"]["__call__"][0], 0),
            "output": output,
        }

    for group in ("C8", "flip-h"):
        assert_equal_to_hooks(file, group, images, hooks, ("first", "second"), layout="NHWC")


def test_the_shape_of_an_input_tells_where_its_colours_are(box, nets):
    file = converted("jax", box, "nets.py:Permuted", "--input-shape", "1,9,9")
    metadata = {p.key: p.value for p in onnx.load(file).metadata_props}
    assert metadata["onnx_geed.input_layout"] == "NCHW"


def test_nnx(box, nets, images):
    from flax import nnx, serialization

    net = nets["Nnx"](nnx.Rngs(5))
    net.eval()
    state = nnx.to_pure_dict(nnx.state(net, nnx.Any(nnx.Param, nnx.BatchStat)))
    (box / "net.msgpack").write_bytes(serialization.to_bytes(state))
    file = converted(
        *("jax", box, "nets.py:Nnx", "--checkpoint", "net.msgpack", "--input-shape", "9,9,1"),
        *("--output-kind", "logits"),
    )

    def hooks(x):
        maps = net.conv(x)
        pooled = nnx.relu(net.norm(maps)).mean((1, 2))
        return {"norm": planar(net.norm(maps)), "latent": pooled, "output": net(x)}

    assert_equal_to_hooks(file, "C8", images, hooks, ("norm",), layout="NHWC")


def test_equinox(box, nets, images):
    import equinox

    net = nets["Equinox"](jax.random.PRNGKey(7))
    equinox.tree_serialise_leaves(box / "net.eqx", net)
    file = converted(
        *("jax", box, "nets.py:Equinox", "--checkpoint", "net.eqx", "--input-shape", "1,9,9"),
        *("--output-kind", "logits"),
    )

    def hooks(x):
        first = jax.vmap(net.convs[0])(x)
        second = jax.vmap(net.convs[1])(jax.nn.relu(first))
        latent = jax.nn.relu(second).mean((2, 3))
        return {"convs.0": first, "latent": latent, "output": jax.vmap(net)(x)}

    assert_equal_to_hooks(file, "C8", planar(images), hooks, ("convs.0",))


@pytest.mark.parametrize("name", ["plain", "pair"])
def test_plain_functions(box, nets, images, name):
    file = converted(
        *("jax", box, f"nets.py:{name}", "--input-shape", "9,9,1", "--output-kind", "probabilities")
    )

    def hooks(x):
        return {"latent": np.tanh(x.reshape(len(x), -1)), "output": nets["plain"](x)}

    assert_equal_to_hooks(file, "C4", images, hooks, layout="NHWC", kind="probabilities")


def test_what_does_not_fit_is_told_and_leaves_no_file(box, nets):
    shape = ("--input-shape", "9,9,1")
    assert "Linne" in refused("jax", box, "nets.py:Linne", *shape)
    assert "nop.eqx" in refused("jax", box, "nets.py:Equinox", "--checkpoint", "nop.eqx", *shape)
    assert "returns int" in refused("jax", box, "nets.py:no_module", *shape)
    (box / "bad.msgpack").write_bytes(b"\x81\xa1a\x01")
    told = refused("jax", box, "nets.py:Linen", "--checkpoint", "bad.msgpack", *shape)
    assert "bad.msgpack" in told
    assert "9, 9, 1" in refused("jax", box, "nets.py:Equinox", *shape)


def test_maps_behind_attention_and_a_checkpoint_without_its_keys(box, nets, images):
    from flax import traverse_util

    net = nets["Attention"]()
    variables = net.init(jax.random.PRNGKey(1), images[:1])
    stored = {"/".join(k): v for k, v in traverse_util.flatten_dict(variables).items()}
    np.savez(box / "net.npz", **stored)
    options = ("--input-shape", "9,9,1", "--output-kind", "logits")
    file = converted("jax", box, "nets.py:Attention", "--checkpoint", "net.npz", *options)

    def hooks(x):
        output, state = net.apply(
            variables, x, capture_intermediates=True, mutable=["intermediates"]
        )
        maps = state["intermediates"]["norm"]["__call__"][0]
        return {"norm": planar(maps), "latent": np.asarray(maps).mean((1, 2)), "output": output}

    assert_equal_to_hooks(file, "C4", images, hooks, ("norm",), layout="NHWC")
    np.savez(box / "part.npz", **{k: v for k, v in stored.items() if "/key/" not in k})
    told = refused("jax", box, "nets.py:Attention", "--checkpoint", "part.npz", *options)
    assert "attend.key" in told


def test_graphs_and_words_have_layouts_names_and_types(box, nets):
    file = converted(
        *("jax", box, "nets.py:Graph", "--input-shape", "adj=10,10", "--input-shape", "nodes=10,3"),
        *("--input-layout", "nodes=NPC", "--input-layout", "adj=NPP", "--layout", "first=NPC"),
    )
    found = {p.key.removeprefix("onnx_geed."): p.value for p in onnx.load(file).metadata_props}
    assert [found[k] for k in ("input", "input_layout", "layout.adj")] == ["nodes", "NPC", "NPP"]
    assert found["layout.first"] == "NPC"
    rng = np.random.default_rng(0)
    fed = {"nodes": rng.random((4, 10, 3), "f4"), "adj": rng.random((4, 10, 10), "f4")}
    net = nets["Graph"]()
    variables = net.init(jax.random.PRNGKey(0), *fed.values())
    (output,) = onnxruntime.InferenceSession(str(file)).run(None, fed)
    np.testing.assert_allclose(output, net.apply(variables, *fed.values()), rtol=1e-5, atol=1e-6)
    shape = ("nets.py:Words", "--input-shape", "ids=12:int32")
    file = converted("jax", box, *shape, "--input-layout", "NT")
    assert onnx.load(file).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT32
    assert "names 3 axes" in refused("jax", box, *shape, "--input-layout", "NTC")
