"""What holds for the package as a whole: the direction of imports, and what loading it loads."""

import ast
import subprocess
import sys
from pathlib import Path

import onnx_geed

ROOT = Path(onnx_geed.__file__).parent


def imports():
    """Module → modules of the package that it imports at its top, lazy imports included."""
    found = {}
    for path in ROOT.glob("*.py"):
        if path.stem in ("__init__", "__main__"):
            continue
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                if node.module == "onnx_geed":
                    names |= {a.name for a in node.names}
                elif node.module.startswith("onnx_geed."):
                    names.add(node.module.split(".")[1])
        found[path.stem] = {n for n in names if (ROOT / f"{n}.py").is_file()}
    return found


def test_imports_run_one_way():
    graph = imports()
    assert graph["cli"], "the reader of imports finds nothing"
    order, left = [], dict(graph)
    while left:
        free = [m for m, needs in left.items() if needs <= set(order)]
        assert free, f"modules import each other in a circle: {sorted(left)}"
        order += free
        left = {m: needs for m, needs in left.items() if m not in free}


def test_nothing_below_the_command_line_imports_it():
    assert all("cli" not in needs for needs in imports().values())


def test_the_statistics_do_not_know_of_models_or_files():
    graph = imports()

    def below(module):
        reached = set(graph[module])
        for name in graph[module]:
            reached |= below(name)
        return reached

    assert not below("eed") & {"graph", "session", "data", "cache", "results"}


def test_help_loads_neither_the_runtime_nor_the_compiler():
    code = (
        "import sys, runpy\n"
        "sys.argv = ['onnx-geed', '--help']\n"
        "try:\n"
        "    runpy.run_module('onnx_geed', run_name='__main__')\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'onnxruntime', 'numba', 'onnx', 'scipy', 'h5py', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_every_public_name_is_there():
    for name in onnx_geed.__all__:
        assert getattr(onnx_geed, name) is not None


def test_no_module_is_longer_than_four_hundred_lines_by_much():
    long = {p.name: n for p in ROOT.glob("*.py") if (n := len(p.read_text().splitlines())) > 475}
    assert set(long) <= {"cli.py"}, long
