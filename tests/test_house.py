"""The plan of the house: which package imports which, by its face, and what loading it loads."""

import ast
import compileall
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import onnx_geed
from onnx_geed.measures import CATALOGUE

ROOT = Path(onnx_geed.__file__).parent

#: From the ground up; a package imports only from those before it. `run` and `report` are siblings,
#: and so are the two ways to use it all, `notebook` and `cli`.
ORDER = (
    "groups",
    "data",
    "model",
    "measures",
    "results",
    "run",
    "report",
    "cache",
    "notebook",
    "cli",
)
SIBLINGS = {("run", "report"), ("report", "run"), ("cli", "notebook"), ("notebook", "cli")}
#: Stones under all packages, which import no package.
GROUND = {
    *("addresses", "arguments", "confinement", "copies", "errors", "extras", "faces"),
    *("files", "held", "jit", "json_text", "kept_loops", "machine_code", "named_paths"),
    *("object_code", "ordinary"),
    *("hdf5_trial", "overrun", "own_code", "safe_names", "spared", "text", "threads", "typed"),
    *("typed_json", "version", "whole", "wording"),
}
#: Ways in, which may import any package.
DOORS = {"__init__", "__main__", "testing", "demo"}


CHECKING = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"


def sources(root):
    return {path.relative_to(root): path.read_text() for path in sorted(root.rglob("*.py"))}


def imports(text):
    """Modules of onnx_geed that a source imports anywhere, as (module, line)."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == "onnx_geed":
                yield from ((f"onnx_geed.{a.name}", node.lineno) for a in node.names)
            elif node.module.startswith("onnx_geed."):
                yield node.module, node.lineno
        elif isinstance(node, ast.Import):
            yield from ((a.name, node.lineno) for a in node.names if a.name.startswith("onnx_geed"))


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def face_of(text):
    """Names that a package's face lists, and the module of each."""
    return {
        alias.asname or alias.name: statement.module
        for block in ast.parse(text).body
        if is_type_checking(block)
        for statement in block.body
        for alias in statement.names
    }


def used_names(text):
    """Names that a source takes from faces, as (package, name)."""
    tree = ast.parse(text)
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            package = (node.module or "").removeprefix("onnx_geed.")
            if node.module == "onnx_geed":
                modules |= {a.asname or a.name: a.name for a in node.names if a.name in ORDER}
            elif package in ORDER:
                yield from ((package, alias.name) for alias in node.names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = modules.get(node.value.id)
            yield from [(owner, node.attr)] if owner else []


def unused(files, others=()):
    """Functions and constants of faces that nobody takes who is not of the package.

    A class may be listed for the type checker and readers where others only hold its values.
    """
    used = set()
    for path, text in files.items():
        here = path.parts[0] if len(path.parts) > 1 else ""
        used |= {(package, name) for package, name in used_names(text) if package != here}
    for text in others:
        used |= set(used_names(text))
    faces = {package: files.get(Path(package, "__init__.py"), "") for package in ORDER}
    listed = {(package, name) for package in ORDER for name in face_of(faces[package])}
    return sorted(
        f"{package}: {name}"
        for package, name in listed - used
        if name.lower() == name or name.isupper()
    )


def breaches(files):
    """Imports in some files, by path in the package, that go against the plan of the house."""
    faults = []
    for path, text in files.items():
        here = path.parts[0] if len(path.parts) > 1 else path.stem
        for module, line in imports(text):
            package, *behind = module.removeprefix("onnx_geed.").split(".")
            where = f"{path}:{line} imports {module}"
            if path.name == "__init__.py" and here in ORDER and package not in (here, *GROUND):
                faults.append(f"{where}: a face lists names of its own package")
                continue
            if package in GROUND or here == package:
                continue
            if here in GROUND:
                faults.append(f"{where}: a ground stone imports no package")
            elif behind:
                faults.append(f"{where}: from outside, import from the package's face")
            elif package in DOORS or package not in ORDER:
                if here not in DOORS and here != "cli":
                    faults.append(f"{where}: is no package below")
            elif here not in DOORS and (
                ORDER.index(package) > ORDER.index(here) or (here, package) in SIBLINGS
            ):
                faults.append(f"{where}: is not below {here}")
    return faults


def decisions_by_name(files):
    """Places outside `measures/` that spell a measure's name for the program, not for people."""
    # The demo measures one network in one way, and writes a page about it.
    ours = {p: text for p, text in files.items() if p.parts[0] not in ("measures", "demo")}
    return [f"{path}:{line} {word!r}" for path, text in ours.items() for line, word in names(text)]


def names(text):
    """Texts that are a measure's name, or that a name is asked to begin or end with."""
    parts = {part for name in CATALOGUE for part in name.split("-")}
    asked, docstrings = set(), set()
    nodes = list(ast.walk(ast.parse(text)))
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("startswith", "endswith"):
                asked |= {id(n) for argument in node.args for n in ast.walk(argument)}
        elif isinstance(node, ast.Expr):
            docstrings.add(id(node.value))
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            part = id(node) in asked and node.value.strip("-") in parts
            if part or (node.value in CATALOGUE and id(node) not in docstrings):
                yield node.lineno, node.value


def circles(files):
    """Modules that import each other in a circle when they are loaded."""
    needs = {}
    for path, text in files.items():
        parts = path.with_suffix("").parts
        name = ".".join(("onnx_geed", *(parts[:-1] if parts[-1] == "__init__" else parts)))
        top = ast.Module([n for n in ast.parse(text).body if not isinstance(n, ast.If)], [])
        needs[name] = {m for m, _ in imports(ast.unparse(top))} - {name}
    needs = {m: {n for n in ns if n in needs} for m, ns in needs.items()}
    while free := [m for m, ns in needs.items() if not ns & set(needs)]:
        for m in free:
            del needs[m]
    return sorted(needs)


def test_packages_import_downwards_and_by_faces():
    files = sources(ROOT)
    assert sum(len(list(imports(text))) for text in files.values()) > 200
    assert breaches(files) == []


@pytest.mark.parametrize(
    ("path", "text", "why"),
    [
        ("groups/grid.py", "from onnx_geed.measures import Measure", "not below groups"),
        ("groups/grid.py", "def f():\n    from onnx_geed.run import measure", "not below groups"),
        ("groups/grid.py", "class A:\n    import onnx_geed.run", "not below groups"),
        ("groups/grid.py", f"{CHECKING}    from onnx_geed.run import measure", "not below groups"),
        ("groups/grid.py", "from onnx_geed import run", "not below groups"),
        ("run/__init__.py", f"{CHECKING}    from onnx_geed.groups import Group as Group", "own"),
        ("run/job.py", "from onnx_geed.report import table", "not below run"),
        ("report/page.py", "from onnx_geed.run import Options", "not below report"),
        ("run/job.py", "from onnx_geed.groups.by_letters import LayoutAction", "face"),
        ("run/job.py", "import onnx_geed.groups.grid", "face"),
        ("errors.py", "from onnx_geed.groups import Group", "ground stone"),
        ("run/job.py", "from onnx_geed.testing import assert_equivariant", "no package below"),
        ("run/job.py", "from onnx_geed import measure", "no package below"),
    ],
)
def test_a_planted_breach_is_found(path, text, why):
    faults = breaches({Path(path): text})
    assert len(faults) == 1
    assert why in faults[0]


def test_a_face_lists_only_what_others_take():
    folders = [ROOT.parent / name for name in ("benchmarks", "docs", "tests")]
    texts = [path.read_text() for folder in folders for path in folder.rglob("*.py")]
    for page in [ROOT.parent / "README.md", *(ROOT.parent / "docs").rglob("*.md")]:
        texts += re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    assert unused(sources(ROOT), texts) == []


def test_scripts_take_from_faces_what_is_there():
    for folder in ("benchmarks", "docs"):
        for path in (ROOT.parent / folder).rglob("*.py"):
            text = path.read_text()
            behind = [module for module, _ in imports(text) if module.count(".") > 1]
            assert not behind, f"{path.name} imports {behind}"
            for package, name in used_names(text):
                face = importlib.import_module(f"onnx_geed.{package}")
                assert name in face.__all__, f"{path.name}: {package} has no {name}"


def test_converters_import_nothing_of_the_package():
    for path in (ROOT.parent / "converters").rglob("*.py"):
        assert list(imports(path.read_text())) == [], path.name


def test_a_name_that_nobody_takes_is_found():
    face = CHECKING + "    from onnx_geed.run.a import x as x, y as y, z as z"
    files = {
        Path("run/__init__.py"): face,
        Path("run/b.py"): "from onnx_geed.run import x",
        Path("cli/c.py"): "def f():\n    from onnx_geed.run import y",
    }
    assert unused(files) == ["run: x", "run: z"]
    files[Path("run/__init__.py")] += ", Job as Job, LIMIT as LIMIT"
    assert unused(files) == ["run: LIMIT", "run: x", "run: z"]
    files[Path("run/__init__.py")] = face
    assert unused(files, ["from onnx_geed import run\nrun.z()"]) == ["run: x"]


@pytest.mark.parametrize("package", ["onnx_geed", *(f"onnx_geed.{name}" for name in ORDER)])
def test_a_public_function_says_its_room(package):
    face = importlib.import_module(package)
    homes = {
        f"onnx_geed.{p}": set(face_of((ROOT / p / "__init__.py").read_text()).values())
        for p in ORDER
    }
    for name, listed in face_of(Path(face.__file__).read_text()).items():
        value = getattr(face, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert value.__module__ in (listed, *homes.get(listed, ())), name


def resolves(name):
    """Whether a dotted name leads somewhere."""
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:k]))
        except ImportError:
            continue
        return all((value := getattr(value, part, None)) is not None for part in parts[k:])
    return False


def gone(text, keys=()):
    """Modules, names and files of the package that a text names and that are not there."""
    names = set(re.findall(r"(?<![\w/.-])onnx_geed(?:\.\w+)+(?![\w/]*[<{*])", text))
    paths = set(re.findall(r"(?<![\w.-])(?:onnx_geed|tests|docs|benchmarks)/[\w/.-]+\.\w+", text))
    return sorted(
        {name for name in names if name not in keys and not resolves(name)}
        | {path for path in paths if not (ROOT.parent / path).exists()}
    )


def test_what_is_gone_is_named_nowhere():
    project = ROOT.parent
    pages = [project / "README.md", project / "pyproject.toml", project / ".ci/run"]
    for folder in ("onnx_geed", "docs", "benchmarks", "tests", "converters"):
        pages += [p for p in (project / folder).rglob("*") if p.suffix in (".py", ".md", ".sh")]
    keys = set(re.findall(r"onnx_geed\.\w+", (project / "docs/formats/metadata.md").read_text()))
    named = {
        f"{page.relative_to(project)} names {name}"
        for page in pages
        if page != Path(__file__)
        for name in gone(page.read_text(), keys)
    }
    assert named == set()


def test_what_is_gone_is_found():
    text = "`onnx_geed.orbits`, :func:`onnx_geed.suite.benchmark`, onnx_geed/table.py, tests/x.sh"
    assert gone(text) == [
        *("onnx_geed.orbits", "onnx_geed.suite.benchmark", "onnx_geed/table.py", "tests/x.sh")
    ]
    assert gone("onnx_geed.measure, onnx_geed.groups.Group, onnx_geed/faces.py") == []


def test_nothing_outside_measures_decides_by_the_name_of_a_measure():
    assert decisions_by_name(sources(ROOT)) == []


@pytest.mark.parametrize(
    "text",
    [
        "if measure.name == 'channel-cos':\n    pass",
        "SCALES = {'latent-cos': 1}",
        "wanted = [m for m in plan if m.name.startswith('latent')]",
        "square = measure.name.endswith(('-l2', '-cos'))",
        "def f():\n    'Docstring.'\n    return 'softmax-kl'",
    ],
)
def test_a_planted_decision_by_name_is_found(text):
    assert decisions_by_name({Path("run/job.py"): text})
    assert not decisions_by_name({Path("measures/plan.py"): text})


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    'softmax-kl'",
        "HELP = 'such as softmax-kl=0.05'",
        "if role == 'latent':\n    pass",
        "text.startswith('run one by one')",
    ],
)
def test_what_people_read_is_no_decision_by_name(text):
    assert not decisions_by_name({Path("run/job.py"): text})


def test_no_modules_import_each_other_in_a_circle():
    assert circles(sources(ROOT)) == []
    assert circles(
        {
            Path("run/a.py"): "from onnx_geed.run.b import x",
            Path("run/b.py"): "from onnx_geed.run.a import y",
        }
    ) == ["onnx_geed.run.a", "onnx_geed.run.b"]


def test_nothing_else_stands_at_the_root():
    names = {p.stem for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert names == GROUND | DOORS | set(ORDER)


def test_every_folder_of_the_package_is_packed():
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {p.parent.relative_to(ROOT.parent) for p in ROOT.rglob("__init__.py")}
    expected = {".".join(p.parts) for p in folders} | {"onnx_geed.converters"}
    assert set(project["packages"]) == expected


def test_help_loads_neither_the_runtime_nor_the_compiler():
    code = (
        "import sys, runpy\n"
        "sys.argv = ['onnx-geed', '--help']\n"
        "try:\n"
        "    runpy.run_module('onnx_geed', run_name='__main__')\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'onnxruntime', 'numba', 'onnx', 'scipy', 'h5py', 'PIL', 'numpy'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("package", ["onnx_geed", *(f"onnx_geed.{name}" for name in ORDER)])
def test_every_name_of_a_face_is_there(package):
    face = importlib.import_module(package)
    assert face.__all__
    for name in face.__all__:
        assert getattr(face, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = face.no_such_name


def test_a_wrong_name_is_told_with_those_that_are_close():
    with pytest.raises(AttributeError, match="Did you mean 'measure'"):
        _ = onnx_geed.mesure
    with pytest.raises(AttributeError, match=r"'onnx_geed.groups' has no attribute 'xyzzy'$"):
        _ = importlib.import_module("onnx_geed.groups").xyzzy


def test_all_names_can_be_listed_and_imported_at_once():
    code = (
        "from onnx_geed import *\n"
        "import onnx_geed, sys\n"
        "assert set(onnx_geed.__all__) <= set(dir(onnx_geed))\n"
        "assert set(onnx_geed.__all__) <= set(globals())\n"
        "assert measure is onnx_geed.measure and parse_group('C4').order == 4\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def copied(folder):
    """Copy the package, as it is installed."""
    shutil.copytree(ROOT, folder / "onnx_geed", ignore=shutil.ignore_patterns("__pycache__"))
    return folder / "onnx_geed"


def demo_from(path, folder):
    code = "import sys, onnx_geed; print(onnx_geed.__file__, onnx_geed.parse_group('C4').order)"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
    )


def test_the_package_is_imported_from_a_zip(tmp_path):
    copied(tmp_path / "plain")
    archive = shutil.make_archive(str(tmp_path / "wheel"), "zip", tmp_path / "plain")
    run = demo_from(archive, tmp_path)
    assert (run.returncode, run.stdout) == (0, f"{archive}/onnx_geed/__init__.py 4\n"), run.stderr


def test_without_source_the_import_says_so(tmp_path):
    package = copied(tmp_path)
    compileall.compile_dir(package, quiet=1, legacy=True)
    for path in package.rglob("*.py"):
        path.unlink()
    run = demo_from(tmp_path, tmp_path)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith(
        "ImportError: onnx_geed: its names are read from its .py files"
    )


@pytest.mark.parametrize("package", ORDER)
def test_no_name_of_a_face_is_hidden_by_a_file(package):
    # A file, once imported, becomes an attribute of its package, and would take the name's place.
    face = importlib.import_module(f"onnx_geed.{package}")
    assert set(face.__all__).isdisjoint(p.stem for p in (ROOT / package).glob("*.py"))


def test_no_module_is_longer_than_four_hundred_lines_by_much():
    long = {p: n for p, text in sources(ROOT).items() if (n := len(text.splitlines())) > 485}
    assert not long
