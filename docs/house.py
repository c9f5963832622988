"""Draw the house from its imports: ``python docs/house.py`` writes ``docs/house.svg``.

A box is a package with its rooms, the lowest at the bottom. A line leads from a package to one that
it imports from, the thicker the more imports there are. Lines to the ground are left out, on which
all packages stand. ``--check`` draws nothing, and fails where the picture is stale.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1] / "onnx_geed"
TARGET = Path(__file__).with_name("house.svg")

#: Floors of the house, from the top; packages on one floor do not import each other.
FLOORS = (
    ("notebook", "cli"),
    ("cache",),
    ("run", "report"),
    ("results",),
    ("measures",),
    ("model",),
    ("data",),
    ("groups",),
    ("ground",),
)
#: Modules at the root that are ways in. All others there are ground.
DOORS = ("__init__", "__main__", "testing")

# In pixels: the boxes' full width, the aisles of lines beside them, and what is inside a box.
WIDTH, LEFT, RIGHT, GAP, MARGIN, PAD = 860, 86, 112, 26, 12, 14
NAME, LINE, LETTER = 18, 18, 7.0

Box = tuple[float, float, float, float]


def purpose(package: str) -> str:
    """Return the first line of what a package says of itself."""
    if package == "ground":
        return "Stones under all packages; they import none."
    source = (ROOT / package / "__init__.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]


def rooms(package: str) -> list[str]:
    """Return the names of a package's files."""
    folder = ROOT if package == "ground" else ROOT / package
    return sorted(p.stem for p in folder.glob("*.py") if p.stem not in DOORS)


def imports() -> Counter[tuple[str, str]]:
    """Count the imports from one package's files of another package, the ground left out."""
    packages = {package for floor in FLOORS for package in floor} - {"ground"}
    counts: Counter[tuple[str, str]] = Counter()
    for package in packages:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module:
                    _, _, other = node.module.partition("onnx_geed.")
                    other = other.split(".")[0]
                    if other in packages - {package}:
                        counts[package, other] += 1
    return counts


def _lines(names: list[str], width: float) -> list[str]:
    """Set names in lines that are not longer than a width."""
    lines = [""]
    for name in names:
        if lines[-1] and (len(lines[-1]) + len(name) + 2) * LETTER > width:
            lines[-1] += ","
            lines.append("")
        lines[-1] += (", " if lines[-1] else "") + name
    return lines


def _widths(floor: tuple[str, ...]) -> list[float]:
    """Share a floor's width between its boxes, by the length of their lists of rooms."""
    free = WIDTH - GAP * (len(floor) - 1)
    least = free if len(floor) == 1 else 320  # wide enough for what a package says of itself
    lengths = [len(", ".join(rooms(package))) for package in floor]
    rest = free - least * len(floor)
    return [least + rest * length / sum(lengths) for length in lengths]


def _boxes() -> dict[str, Box]:
    """Return left, top, width and height of every package's box."""
    boxes, top = {}, float(MARGIN)
    for floor in FLOORS:
        widths = _widths(floor)
        count = max(
            len(_lines(rooms(package), width - 2 * PAD))
            for package, width in zip(floor, widths, strict=True)
        )
        height, left = 2 * PAD + NAME + LINE * (1 + count), float(MARGIN + LEFT)
        for package, width in zip(floor, widths, strict=True):
            boxes[package] = (left, top, width, height)
            left += width + GAP
        top += height + GAP
    return boxes


def _floors_down(upper: str, lower: str) -> int:
    level = {package: i for i, floor in enumerate(FLOORS) for package in floor}
    return level[lower] - level[upper]


def _is_left(edge: tuple[str, str], boxes: dict[str, Box]) -> bool:
    """Whether a line takes the left aisle, as those of a box do that has another on its right."""
    return any(boxes[p][0] + boxes[p][2] < MARGIN + LEFT + WIDTH - 1 for p in edge)


def _ends(edges: list[tuple[str, str]], boxes: dict[str, Box]) -> dict[tuple[str, ...], float]:
    """Return the height at which each line through an aisle meets each of its two boxes.

    On a box's side the lines that come from above meet it above those that leave it, in an order in
    which lines of one aisle cross as little as they can.
    """
    heights = {}
    for package, (_, top, _, tall) in boxes.items():
        for left in (True, False):
            own = [e for e in edges if package in e and _is_left(e, boxes) == left]
            coming = sorted((e for e in own if e[1] == package), key=lambda e: _floors_down(*e))
            leaving = sorted((e for e in own if e[0] == package), key=lambda e: -_floors_down(*e))
            step = min(10.0, (tall - 20) / max(len(own) - 1, 1))
            first = top + tall / 2 - step * (len(own) - 1) / 2
            for i, edge in enumerate([*coming, *leaving]):
                heights[(*edge, package)] = first + step * i
    return heights


def _paths(edges: list[tuple[str, str]], boxes: dict[str, Box]) -> dict[tuple[str, str], str]:
    """Lead every line down: straight to the next floor, through an aisle past others."""
    paths = {}
    ends = _ends([e for e in edges if _floors_down(*e) > 1], boxes)
    for upper, lower in edges:
        (x0, y0, w0, h0), (x1, y1, w1, _) = boxes[upper], boxes[lower]
        floors = _floors_down(upper, lower)
        if floors == 1:
            middle = (max(x0, x1) + min(x0 + w0, x1 + w1)) / 2
            paths[upper, lower] = f"M{middle:.0f},{y0 + h0:.0f} V{y1 - 5:.0f}"
            continue
        start, end = (ends[upper, lower, package] for package in (upper, lower))
        left = _is_left((upper, lower), boxes)
        side, sign = (MARGIN + LEFT, -1) if left else (MARGIN + LEFT + WIDTH, 1)
        bend = side + sign * (12 + 17 * floors)
        paths[upper, lower] = (
            f"M{side},{start:.0f} C{bend},{start:.0f} {bend},{end:.0f} {side + 5 * sign},{end:.0f}"
        )
    return paths


STYLE = """
  .paper { fill: #ffffff; stroke: none }
  rect { fill: #f4f6fa; stroke: #8291a7 }
  path { fill: none; stroke: #7d8ca3; stroke-opacity: .7 }
  #end path { fill: #7d8ca3; stroke: none }
  text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1d2733 }
  .name { font-size: 16px; font-weight: 650 }
  .room { fill: #55637a }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 }
    rect { fill: #171d26; stroke: #56647a }
    path { stroke: #8494ad }
    #end path { fill: #8494ad }
    text { fill: #e2e8f1 }
    .room { fill: #a3b0c4 }
  }
"""


def draw() -> str:
    """Return the picture as SVG."""
    boxes = _boxes()
    width = LEFT + WIDTH + RIGHT + 2 * MARGIN
    height = max(top + tall for _, top, _, tall in boxes.values()) + MARGIN
    counts, parts = imports(), []
    for edge, path in _paths(sorted(counts), boxes).items():
        parts.append(
            f'<path d="{path}" marker-end="url(#end)" '
            f'stroke-width="{min(5.0, 0.8 + counts[edge] / 8):.1f}">'
            f"<title>{edge[0]} imports from {edge[1]}</title></path>"
        )
    for package, (left, top, wide, tall) in boxes.items():
        parts.append(
            f'<rect x="{left:.0f}" y="{top:.0f}" width="{wide:.0f}" height="{tall:.0f}" rx="7"/>'
        )
        x, y = left + PAD, top + PAD + 12
        label = package if package == "ground" else f"{package}/"
        lines = [("name", label), ("purpose", purpose(package))]
        lines += [("room", line) for line in _lines(rooms(package), wide - 2 * PAD)]
        for i, (kind, line) in enumerate(lines):
            at = f'x="{x:.0f}" y="{y + LINE * i:.0f}"'
            parts.append(f'<text {at} class="{kind}">{escape(line)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" role="img" '
        f'aria-label="The packages of onnx_geed, their files, and which imports from which">\n'
        f"<style>{STYLE}</style>\n"
        '<defs><marker id="end" viewBox="0 0 6 6" refX="4" refY="3" markerWidth="8" '
        'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
        '<path d="M0,0 L6,3 L0,6 z"/></marker></defs>\n'
        f'<rect class="paper" width="{width}" height="{height:.0f}"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def wording(svg: str) -> list[str]:
    """Return what a picture says: its texts, and which package imports from which."""
    elements = re.findall(r"<(text|title)\b[^>]*>(.*?)</\1>", svg, re.DOTALL)
    return sorted(re.sub(r"<[^>]+>", " ", text) for _, text in elements)


def main() -> None:
    """Draw, or check."""
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(draw(), encoding="utf-8")
    elif not TARGET.is_file() or wording(TARGET.read_text("utf-8")) != wording(draw()):
        sys.exit("docs/house.svg is not what the imports are: run python docs/house.py")


if __name__ == "__main__":
    main()
