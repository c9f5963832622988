"""Two small C8 steerable networks, for `from_escnn.py` too (`steerable.py:even`).

They are the same but for the stride of the second convolution: on 10x10 pixels, the input that
escnn's own check takes, a stride of 2 looks half a pixel off the centre.
"""

from __future__ import annotations

from typing import Any

import torch
from from_escnn import stand_in


def network(stride: int) -> Any:
    stand_in()
    from escnn import gspaces, nn

    torch.manual_seed(0)
    turns = gspaces.rot2dOnR2(8)
    image = nn.FieldType(turns, [turns.trivial_repr])
    hidden = nn.FieldType(turns, 2 * [turns.regular_repr])
    return nn.SequentialModule(
        nn.R2Conv(image, hidden, 5, padding=2, bias=False),
        nn.ReLU(hidden),
        nn.R2Conv(hidden, hidden, 3, padding=1, stride=stride, bias=False),
        nn.ReLU(hidden),
    ).eval()


def centred() -> Any:
    return network(1)


def even() -> Any:
    return network(2)
