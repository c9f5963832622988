"""What tables of moves are said to take, against those that are made."""

import pytest

from onnx_geed.groups import Lettered, layout_action, parse_group, parse_layout, table_bytes
from onnx_geed.groups.moves import Moves

# Names, layouts and lengths in kept order: each kind of factor alone, and products.
CASES = [
    *[(name, "NCHW", (3, 24, 24)) for name in ("C4", "C8", "D12", "flip-h", "shift2x3", "hue5")],
    *[(name, "NCHW", (3, 17, 24)) for name in ("C8", "zoom:0.8..1.25/5", "rotate:-30..30/7")],
    *[(name, "NCDHW", (1, 8, 8, 9)) for name in ("O", "C8-x", "SO3~5")],
    *[(name, "NPX", (7, 3)) for name in ("S7~4", "C8-z", "S7~4*C8-z")],
    *[("C4*hue3", "NCHW", (3, 9, 9)), ("C8*S3", "NPHW", (3, 12, 12))],
    *[
        ("reverse", "NCT", (2, 30)),
        ("revcomp", "NBT", (4, 20)),
        ("brightness:0.5..1.5/5", "NHWC", (3, 8, 8)),
    ],
]


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(("name", "layout", "lengths"), CASES)
def test_tables_take_no_more_than_is_said(name, layout, lengths, interpolation):
    group, letters = parse_group(name), parse_layout(layout)
    moves = layout_action(group, letters, lengths, interpolation, of_input=True).moves
    said = table_bytes(group, [Lettered(letters, lengths, True)], interpolation)
    assert moves.bytes <= said <= 4 * moves.bytes
    assert moves.bytes == moves.index.nbytes + moves.weight.nbytes + moves.permutation.nbytes


def test_tensors_that_move_alike_share_their_tables():
    group, layout = parse_group("C8"), parse_layout("NCHW")
    one, other = (Lettered(layout, (c, 24, 24)) for c in (3, 64))
    small = Lettered(layout, (64, 12, 12))
    alone = table_bytes(group, [one], "bilinear")
    assert table_bytes(group, [one, other, one], "bilinear") == alone
    assert table_bytes(group, [one, small], "bilinear") == alone * 5 // 4


def test_nothing_is_made_to_tell(monkeypatch):
    monkeypatch.setattr(Moves, "__init__", lambda *_: pytest.fail("tables were made"))
    layout = Lettered(parse_layout("NCHW"), (1, 1 << 13, 1 << 13), True)
    # 89 angles of 360 that are no quarter turns, four taps of 12 bytes; and 360 permutations.
    assert table_bytes(parse_group("C360"), [layout], "bilinear") == (89 * 48 + 360 * 4) << 26
