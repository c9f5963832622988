"""Draw the house from its imports: ``python docs/house.py`` writes ``docs/house.svg``.

A box is a package with its rooms, lowest at the bottom; a line is drawn for every package that
another one imports, as thick as the number of imports.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1] / "onnx_geed"
TARGET = Path(__file__).with_name("house.svg")

#: Floors of the house, from the top; packages on one floor do not import each other.
FLOORS = (
    ("cli",),
    ("cache",),
    ("run", "report"),
    ("results",),
    ("measures",),
    ("model",),
    ("data",),
    ("groups",),
    ("ground",),
)
GROUND = ("errors", "faces", "files", "jit", "text", "typed")
WIDTH, HEIGHT, GAP, MARGIN = 380, 74, 34, 16


def purpose(package: str) -> str:
    """First line of what a package says of itself."""
    if package == "ground":
        return "Stones under all packages."
    text = (ROOT / package / "__init__.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]


def rooms(package: str) -> list[str]:
    """Names of a package's files."""
    if package == "ground":
        return list(GROUND)
    return sorted(p.stem for p in (ROOT / package).glob("*.py") if p.stem != "__init__")


def imports() -> Counter[tuple[str, str]]:
    """How often a package's files import from another package."""
    found: Counter[tuple[str, str]] = Counter()
    packages = {name for floor in FLOORS for name in floor}
    for path in ROOT.rglob("*.py"):
        here = path.relative_to(ROOT).parts[0]
        if here not in packages or path.name == "__init__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("onnx_geed."):
                there = str(node.module).split(".")[1]
                there = "ground" if there in GROUND else there
                if there in packages and there != here:
                    found[here, there] += 1
    return found


def _wrapped(words: list[str], length: int) -> list[str]:
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) + 2 > length:
            lines.append("")
        lines[-1] += (", " if lines[-1] else "") + word
    return lines


def draw() -> str:
    """Return the picture as SVG."""
    boxes: dict[str, tuple[float, float]] = {}
    whole = 2 * WIDTH + GAP + 2 * MARGIN + 120
    for level, floor in enumerate(FLOORS):
        left = (whole - 120 - len(floor) * WIDTH - (len(floor) - 1) * GAP) / 2
        for i, name in enumerate(floor):
            boxes[name] = (left + i * (WIDTH + GAP), MARGIN + level * (HEIGHT + GAP))
    height = 2 * MARGIN + len(FLOORS) * (HEIGHT + GAP) - GAP
    level_of = {name: level for level, floor in enumerate(FLOORS) for name in floor}
    lines, parts = [], []
    for (a, b), count in sorted(imports().items()):
        (xa, ya), (xb, yb) = boxes[a], boxes[b]
        thick = min(6.0, 0.8 + count / 6)
        if level_of[b] - level_of[a] == 1:
            x0, x1 = xa + WIDTH / 2, xb + WIDTH / 2
            x0, x1 = (x1, x1) if xa <= x1 <= xa + WIDTH else (x0, x0)
            if not xb <= x1 <= xb + WIDTH:
                x1 = xb + WIDTH / 2
            path = f"M{x0:g},{ya + HEIGHT:g} L{x1:g},{yb - 5:g}"
        else:
            # Past the floors between, on the side where the box stands.
            right = xa + WIDTH > whole / 2 or len(FLOORS[level_of[a]]) == 1
            depth = 14 * (level_of[b] - level_of[a])
            if right:
                x0, x1 = xa + WIDTH, xb + WIDTH
                bend = max(x0, x1) + depth
                x1 += 5
            else:
                x0, x1 = xa, xb
                bend = min(x0, x1) - depth
                x1 -= 5
            y0, y1 = ya + HEIGHT / 2, yb + HEIGHT / 2
            path = f"M{x0:g},{y0:g} C{bend:g},{y0:g} {bend:g},{y1:g} {x1:g},{y1:g}"
        title = f"<title>{a} imports {b} {count} times</title>"
        lines.append(
            f'<path d="{path}" stroke-width="{thick:.1f}" marker-end="url(#end)">{title}</path>'
        )
    for name, (x, y) in boxes.items():
        parts.append(f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>')
        label = "errors, faces, …" if name == "ground" else f"{name}/"
        label = "ground" if name == "ground" else label
        parts.append(f'<text x="{x + 12:g}" y="{y + 20:g}" class="name">{label}</text>')
        parts.append(
            f'<text x="{x + 12:g}" y="{y + 36:g}" class="what">{escape(purpose(name))}</text>'
        )
        for k, line in enumerate(_wrapped(rooms(name), 64)[:2]):
            parts.append(
                f'<text x="{x + 12:g}" y="{y + 52 + 14 * k:g}" class="room">{escape(line)}</text>'
            )
    style = (
        "rect{fill:#f6f8fb;stroke:#5b6b82}path{fill:none;stroke:#8a97ab;stroke-opacity:.75}"
        "text{font-family:system-ui,sans-serif;fill:#1d2733}.name{font-size:15px;font-weight:600}"
        ".what{font-size:11.5px}.room{font-size:10.5px;fill:#55637a}"
    )
    marker = (
        '<marker id="end" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="7" markerHeight="7" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0,0 L6,3 L0,6 z" '
        'style="fill:#8a97ab;stroke:none"/></marker>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole:g} {height:g}" role="img" '
        f'aria-label="The packages of onnx_geed and what they import">\n<style>{style}</style>\n'
        f"<defs>{marker}</defs>\n"
        f'<rect x="0" y="0" width="{whole:g}" height="{height:g}" '
        'style="fill:#fff;stroke:none"/>\n' + "\n".join([*lines, *parts]) + "\n</svg>\n"
    )


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        if not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != draw():
            sys.exit("docs/house.svg is not what the imports are: run python docs/house.py")
    else:
        TARGET.write_text(draw(), encoding="utf-8")
