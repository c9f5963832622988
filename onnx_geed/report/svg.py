"""Where pictures are drawn: matplotlib's SVG with real text, in the colours of the page."""

from __future__ import annotations

import base64
import html
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from onnx_geed.errors import GeedError
from onnx_geed.safe_names import plain, xml_text
from onnx_geed.whole import whole

__all__ = [
    "FONT",
    "INK",
    "LIGHT",
    "MARKERS",
    "MOST_SERIES",
    "PAPER",
    "SERIES",
    "SOFT",
    "TIP",
    "Mark",
    "Picture",
    "drawing",
    "in_the_light",
    "load_matplotlib",
    "mark",
    "note_of_image",
    "panels_across",
    "series_of",
    "themed",
]

# matplotlib draws in colours that nothing else uses; the page's own take their place, so that one
# picture serves light and dark.
INK, SOFT, LINE, PAPER = "#123401", "#123402", "#123403", "#123404"


SERIES = tuple(f"#12341{i}" for i in range(6))


#: As many results are drawn as lines, each in its colour; more are rows in one scale of colours.
MOST_SERIES = len(SERIES)


_VARIABLES = {INK: "ink", SOFT: "soft", LINE: "line", PAPER: "paper"} | {
    colour: f"s{i}" for i, colour in enumerate(SERIES)
}


#: The page's colours in the light.
LIGHT = {
    "ink": "#1d232b",
    "soft": "#5b6673",
    "line": "#d5dae1",
    "paper": "#ffffff",
    "s0": "#0b63a8",
    "s1": "#c2500a",
    "s2": "#0f7b5f",
    "s3": "#a03a86",
    "s4": "#8a6a00",
    "s5": "#4b5bb5",
}


MARKERS = "osD^vP"


def series_of(i: int) -> tuple[str, str]:
    """Return colour and marker of one of several series: 36 pairs before any comes again."""
    return SERIES[i % len(SERIES)], MARKERS[(i + i // len(SERIES)) % len(MARKERS)]


#: An artist whose gid begins so tells what follows where the pointer rests on it.
TIP = "tip:"


FONT = 9.0


# As TIP, of many marks at once, and of an image.
_MARKS, _IMAGE = "marks:", "image:"


@dataclass(frozen=True)
class Mark:
    """A place of a picture that tells something where a pointer rests, and may be clicked.

    Parameters
    ----------
    x, y : float
        Where it is.
    tip : str
        What it tells.
    at : mapping of str to object
        What it stands for: ``model`` and ``layer`` by name, ``element`` and ``sample`` by number.
    """

    x: float
    y: float
    tip: str
    at: Mapping[str, Any] = field(default_factory=dict)


def mark(axes: Any, marks: Sequence[Mark]) -> None:
    """Put marks into a picture, larger than what is seen, so that a pointer finds them."""
    if marks:
        told = _MARKS + _packed([[m.tip, dict(m.at)] for m in marks])
        # In front of all that is seen, which a pointer would find instead.
        look: dict[str, Any] = {"ms": 9, "ls": "", "alpha": 0, "zorder": 10}
        axes.plot([m.x for m in marks], [m.y for m in marks], "s", gid=told, **look)


def note_of_image(image: Any, note: Mapping[str, Any]) -> None:
    """Give an image of cells what the page's script tells of each of them."""
    image.set_gid(_IMAGE + _packed(note))


def _packed(content: Any) -> str:
    """Return content as letters that nothing has to be escaped in."""
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def _unpacked(text: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(text))


def load_matplotlib() -> Any:
    """Return matplotlib, which draws to files here, whatever windows it was set to draw in.

    Raises
    ------
    GeedError
        If it is not installed, or its own settings are wrong.
    """
    # A backend that there is not would be an error already on loading.
    backend = os.environ.pop("MPLBACKEND", None)
    # Where it may keep no list of fonts, it works without, and has two lines to say of it.
    told = logging.getLogger("matplotlib")
    level = told.level
    told.setLevel(logging.ERROR)
    try:
        with whole():
            import matplotlib as mpl
            import matplotlib.figure
    except ImportError:
        raise GeedError(
            "report: needs matplotlib and jinja2; install them with pip install 'onnx-geed[report]'"
        ) from None
    except Exception as error:
        raise GeedError(
            f"report: matplotlib cannot be loaded ({error}); look at its matplotlibrc"
        ) from None
    finally:
        told.setLevel(level)
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    return mpl


class Picture(str):
    """An SVG, and the figure that it was drawn from."""

    figure: Any


@contextmanager
def drawing(
    width: float, height: float, **options: Any
) -> Iterator[tuple[Any, Any, list[Picture]]]:
    """Yield a figure, its axes, and a list that will hold the picture."""
    mpl = load_matplotlib()

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": f"{width}{height}{options}",
        "font.size": FONT,
        "text.color": INK,
        "axes.edgecolor": LINE,
        "axes.labelcolor": SOFT,
        "xtick.color": LINE,
        "ytick.color": LINE,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "grid.color": LINE,
        "axes.unicode_minus": True,
        # A name is no mathematics, whatever dollars are in it.
        "text.parse_math": False,
        "legend.frameon": False,
    }
    picture: list[Picture] = []
    # Matplotlib's C code tells of a Ctrl-C as of a wrong matrix.
    with whole(), mpl.rc_context(style):
        figure = mpl.figure.Figure(figsize=(width, height), layout="constrained", facecolor="none")
        axes = figure.add_subplot(**options)
        axes.set_facecolor("none")
        for side in axes.spines:
            axes.spines[side].set_visible(side in ("left", "bottom", "polar"))
        yield figure, axes, picture
        buffer = io.StringIO()
        with warnings.catch_warnings():
            # Text stays text, and the browser's fonts have the letters that this one has not.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            warnings.filterwarnings("ignore", "constrained_layout not applied")  # of long names
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    picture.append(Picture(_cleaned(buffer.getvalue())))
    picture[0].figure = figure


def panels_across(count: int) -> int:
    """Return how many panels stand beside each other, so that none is alone in the last line."""
    return min(count, next((wide for wide in (3, 2, 4) if count % wide != 1), 3))


# As matplotlib has them; what is inside inherits them.
_STROKES = "stroke-linejoin: round; stroke-linecap: butt"


_STYLE = re.compile(r' style="[^"]*"')


def _cleaned(svg: str) -> str:
    """Keep what the page needs of matplotlib's SVG, with the page's colours and font."""
    svg = xml_text(svg[svg.index("<svg") :])
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Its style is for all of a document: on a page, for all other pictures too.
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = svg.replace("<svg", f'<svg style="{_STROKES}"', 1)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(rf'<g id="{TIP}([^"]*)">', r"<g><title>\1</title>", svg)
    ends = r'([\w=-]*)">(.*?</g>\s*</g>)'
    svg = re.sub(rf'<g id="{_MARKS}{ends}', _with_marks, svg, flags=re.DOTALL)
    svg = re.sub(rf' id="{_IMAGE}([\w=-]*)"', _with_note, svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: sans-serif", svg)
    svg = re.sub(r"font: ([\d.]+px) '[^;\"]*", r"font: \1 sans-serif", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    for colour, name in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.strip()


def _with_marks(found: re.Match[str]) -> str:
    """Give each mark of a group its own words and what it stands for."""
    told = iter(_unpacked(found[1]))

    def one(use: re.Match[str]) -> str:
        tip, at = next(told)
        known = "".join(f' data-{key}="{_attribute(value)}"' for key, value in at.items())
        seen = _STYLE.sub("", use[0])
        return f"<g{known}><title>{_attribute(tip)}</title>{seen}</g>"

    # All are drawn alike: said once, of thousands it would be half of a picture.
    look = re.search(rf"<use [^>]*?({_STYLE.pattern})", found[2])
    return f"<g{look[1] if look else ''}>" + re.sub(r"<use [^>]*/>", one, found[2])


def _with_note(found: re.Match[str]) -> str:
    return f' data-cells="{_attribute(json.dumps(_unpacked(found[1])))}"'


def _attribute(value: object) -> str:
    return html.escape(plain(str(value)))


def themed(svg: str, colours: Mapping[str, str] = LIGHT) -> str:
    """Return a picture that stands alone, in fixed colours.

    Parameters
    ----------
    svg : str
        A picture of this module.
    colours : mapping of str to str
        Colours by name.

    Returns
    -------
    str
        A whole SVG file.
    """
    return '<?xml version="1.0" encoding="utf-8"?>\n' + re.sub(
        r"var\(--(\w+)\)", lambda variable: colours[variable[1]], svg
    )


def in_the_light(picture: Picture) -> Any:
    """Return the figure of a picture in the page's colours in the light, on white.

    Parameters
    ----------
    picture : Picture
        As it was drawn.

    Returns
    -------
    matplotlib.figure.Figure
        A notebook shows it as the page does, whether pyplot was loaded or not.
    """
    mpl, figure = load_matplotlib(), picture.figure
    light = {mpl.colors.to_rgb(drawn): LIGHT[name] for drawn, name in _VARIABLES.items()}
    for artist in figure.findobj():
        for kind in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            get, put = getattr(artist, f"get_{kind}", None), getattr(artist, f"set_{kind}", None)
            colours = mpl.colors.to_rgba_array(get()) if get and put else []
            if put and any(tuple(c[:3]) in light for c in colours):
                new = [mpl.colors.to_rgba(light.get(tuple(c[:3]), c[:3]), c[3]) for c in colours]
                put(new[0] if len(new) == 1 else new)
    figure.set_facecolor(LIGHT["paper"])
    figure._repr_svg_ = partial(themed, str(picture))
    return figure
