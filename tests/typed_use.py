"""What a user writes whose type checker is strict: it is checked, and never run."""

import numpy as np

import onnx_geed
from onnx_geed import GeedError, Group, Options, Result, load, measure, parse_group


def figures(path: str) -> dict[str, float | None]:
    group: Group = parse_group("C8")
    result: Result = measure(path, np.zeros((4, 3, 8, 8), np.float32), group, samples=4)
    for record in result["measurements"]:
        layer: str = record["layer"]
        ends: list[float] | None = record["ci95"]
        print(layer, ends, record["warnings"])
    return {r["measure"]: r["value"] for r in result["measurements"]}


def called(batch: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> dict[str, object]:
    return {"vector": batch.mean((2, 3)), "logits": batch.sum((2, 3))}


def of_a_function() -> str:
    result = measure(called, np.zeros((4, 3, 8, 8), np.float32), "C4", latent="vector")
    kind: str = result["model"].get("kind", "onnx")
    return kind


def trained(batches: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]) -> dict[str, float]:
    metric = onnx_geed.EquivarianceMetric("C4", ["softmax-kl"], output_kind="logits")
    for batch in batches:
        metric.update(called, batch)
    total: onnx_geed.EquivarianceMetric = metric + metric
    onnx_geed.log_tensorboard(total.compute(), "runs", 1)
    onnx_geed.log_wandb(metric.compute(), 1)
    onnx_geed.log_mlflow(load("result.json"), 1)
    return metric.compute()


def pages(paths: list[str]) -> str:
    results: list[Result] = [load(path) for path in paths]
    onnx_geed.write_report(results, "report.html")
    both = onnx_geed.compare(results[0], results[1])
    also = results[0].compare(results[1])
    assert both["measurements"][0]["verdict"] == also["measurements"][0]["verdict"]
    frame = also.to_dataframe("polars")
    assert frame is not None
    assert both.copy().to_dataframe() is not None
    same: onnx_geed.Comparison = both
    assert same["a"]["path"]
    assert same["differ_in"] == []
    mean: float | None = onnx_geed.aggregate(results)["measurements"][0]["mean"]
    findings = onnx_geed.diagnose(results[0])
    onnx_geed.write_json(results[0], "copy.json")
    results[0].save("copy.json")
    results[0].plot("angles").savefig("angles.png")
    group: str = results[0]["group"]["name"]
    return f"{mean} {findings} {group} {onnx_geed.__version__}"


def shared(path: str) -> Result:
    several: list[Result] = onnx_geed.measure_groups(path, "images/", ["C4", "flip-h"])
    whole: Result = onnx_geed.merge([several[0], "part-2.json"])
    kept: Result = onnx_geed.measure_cache("acts.geed")
    read: Result = onnx_geed.read_result(path)
    try:
        Options(samples=3)
    except GeedError as error:
        print(error)
    return whole or kept or read
