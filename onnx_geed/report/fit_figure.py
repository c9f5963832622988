"""The picture of fitted layers: how far off each prediction is, beside the shuffled null."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_geed.measures import within
from onnx_geed.report.axes import label_layers, legend
from onnx_geed.report.svg import INK, LINE, MARKERS, SERIES, SOFT, TIP, drawing
from onnx_geed.results import LayerMotion
from onnx_geed.text import span

__all__ = ["motions_picture"]

# The same colour and mark whichever of them are there.
_KINDS = ("identity", "permutation", "orthogonal", "linear")


def motions_picture(motions: Sequence[LayerMotion]) -> str:
    """Draw layers down, and of each what its predictions leave as a share of the shuffled null.

    Parameters
    ----------
    motions : sequence of LayerMotion
        Of one measure, each with a null.

    Returns
    -------
    str
        SVG. On the right it says what each layer does.
    """
    kinds = [k for k in _KINDS if any(p.kind == k for m in motions for p in m.predictions)]
    step = 0.12 + 0.11 * len(kinds) if len(motions) <= 24 else 0.06 + 0.07 * len(kinds)
    with drawing(5.0, 1.0 + step * len(motions)) as (_, axes, picture):
        seen = set()
        for y, m in enumerate(motions):
            perfect = m.descriptor.perfect
            scale = (m.null or 0.0) - perfect
            if scale <= 0:
                continue
            if y % 2:
                axes.axhspan(y - 0.5, y + 0.5, color=LINE, alpha=0.25, lw=0)
            if m.mean_tensor is not None:
                at = (m.mean_tensor - perfect) / scale
                axes.plot([at, at], [y - 0.45, y + 0.45], color=SOFT, lw=1, ls=(0, (1, 2)))
            for p in m.predictions:
                i = _KINDS.index(p.kind)
                row = y + (kinds.index(p.kind) - (len(kinds) - 1) / 2) * 0.8 / len(kinds)
                x = (p.value - perfect) / scale
                ends = within(m.descriptor, p.ci95 or (p.value, p.value))
                axes.errorbar(
                    [x],
                    [row],
                    xerr=[
                        [max(0.0, (p.value - ends[0]) / scale)],
                        [max(0.0, (ends[1] - p.value) / scale)],
                    ],
                    fmt=MARKERS[i],
                    ms=3.5,
                    lw=1.4,
                    color=SERIES[i],
                    label=None if p.kind in seen else p.kind,
                )
                seen.add(p.kind)
                if p.fit and p.null is not None:
                    axes.plot([(p.null - perfect) / scale], [row], "|", ms=5, color=SERIES[i])
                null = f", its null {span(m.told(p.null))}" if p.fit and p.null is not None else ""
                tip = f"{TIP}{m.layer}, {p.kind}: {span(m.told(p.value))}{null}"
                axes.plot([x], [row], "s", ms=7, alpha=0, gid=tip)
            axes.text(1.02, y, m.motion, transform=axes.get_yaxis_transform(), va="center")
        label_layers(axes, [m.layer for m in motions])
        axes.set_ylim(len(motions) - 0.5, -0.5)
        axes.axvline(1.0, color=INK, lw=1)
        axes.axvline(0.0, color=SOFT, lw=1, ls=(0, (4, 3)))
        axes.set_xlim(min(-0.02, axes.get_xlim()[0]), max(1.0, axes.get_xlim()[1]))
        axes.grid(axis="x", lw=0.5)
        axes.set_axisbelow(True)
        axes.set_xlabel("share of the shuffled null; dashed line: perfect, solid line: shuffled")
        legend(axes, len(kinds))
    return picture[0]
