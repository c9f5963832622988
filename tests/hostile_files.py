"""Files that mean harm, small on the disk: each case writes them, and gives a command line.

A case is a function of an empty folder; ``CASES`` has them by name, and ``made`` writes one.
"""

import gzip
import json
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import letter_models
import models
import numpy as np

Case = Callable[[Path], str]

GIGA = 1 << 30

_FEW = "--samples 3 --norm-samples 3 --provider cpu"

_PIECE = 64 << 20


def measure(data: str = "x.npy", more: str = "") -> str:
    return f"measure model.onnx --data {data} --group C4 {_FEW} --out r.json {more}"


def images(count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).random((count, 3, 8, 8), dtype=np.float32)


# ------------------------------------------------------------------------------------------------
# Makers of files
# ------------------------------------------------------------------------------------------------


def sparse(path: Path, size: int, head: bytes = b"") -> None:
    """A file of so many bytes, of which none but the first take room."""
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)


def npy_head(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def zeros(size: int) -> list[bytes]:
    """So many zeros in raw deflate, in pieces that are made once."""
    maker = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = maker.compress(bytes(_PIECE)) + maker.flush(zlib.Z_FULL_FLUSH)
    return [piece] * (size // _PIECE)


_DEFLATED: dict[int, bytes] = {}


def deflated(head: bytes, size: int) -> bytes:
    """A head and so many zeros as one stream of raw deflate."""
    if size not in _DEFLATED:
        _DEFLATED[size] = b"".join(zeros(size))
    start = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = start.compress(head) + start.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, zlib.DEFLATED, -15)
    return first + _DEFLATED[size] + end.compress(b"") + end.flush()


def packed(path: Path, head: bytes, size: int, *, said: int | None = None) -> None:
    """A gzip file of a head and so many zeros; ``said`` is the length in its trailer."""
    said = (len(head) + size) % (1 << 32) if said is None else said
    body = deflated(head, size)
    path.write_bytes(b"\x1f\x8b\x08" + bytes(6) + b"\xff" + body + struct.pack("<II", 0, said))


def archive(path: Path, members: dict[str, tuple[bytes, int, int]]) -> None:
    """A zip of members: each a head, zeros behind it, and the bytes that it says it has."""
    body, listed = b"", b""
    for name, (head, size, said) in members.items():
        content, at = deflated(head, size), len(body)
        text = name.encode()
        more = struct.pack("<HHQQ", 1, 16, said, len(content))
        most = (1 << 32) - 1
        common = struct.pack("<HHHHHIII", 45, 0, 8, 0, 33, 0, most, most)
        local = common + struct.pack("<HH", len(text), len(more))
        body += b"PK\x03\x04" + local + text + more + content
        listed += b"PK\x01\x02" + struct.pack("<H", 45) + local
        listed += struct.pack("<HHHII", 0, 0, 0, 0, at) + text + more
    count = len(members)
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(listed), len(body), 0)
    path.write_bytes(body + listed + b"PK\x05\x06" + end)


def chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def png(path: Path, width: int, height: int, *, colours: int = 2, more: bytes = b"") -> None:
    """A black PNG."""
    channels, bits = {0: (1, 8), 2: (3, 8), 6: (4, 8), 3: (1, 8), 16: (1, 16)}[colours]
    kind = 0 if colours == 16 else colours
    size = height * (1 + width * channels * bits // 8)
    size += -size % _PIECE  # rows behind the last are not looked at
    stream = b"\x78\xda" + deflated(b"", size) + struct.pack(">I", (size % 65521) << 16 | 1)
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(768)) if colours == 3 else b""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + more
        + palette
        + chunk(b"IDAT", stream)
        + chunk(b"IEND", b"")
    )


def picture(path: Path, form: str, size: tuple[int, int] = (8, 8)) -> bytes:
    from PIL import Image

    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size, (200, 100, 50)).save(path, form)
    return path.read_bytes()


def tiff(path: Path, width: int, height: int, *, compression: int = 1) -> None:
    """A TIFF that says to be of this size, and holds one strip of a few bytes."""
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, compression),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, 4),
    ]
    path.parent.mkdir(exist_ok=True)
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    path.write_bytes(
        b"II*\0"
        + struct.pack("<I", 12)
        + bytes(4)
        + struct.pack("<H", len(entries))
        + table
        + bytes(4)
    )


def wav(path: Path, frames: int, channels: int = 1, *, size: int | None = None) -> None:
    """A WAV of silence that lies in a hole of the disk."""
    path.parent.mkdir(exist_ok=True)
    length = frames * channels * 2
    said = min(length, (1 << 32) - 64)
    head = b"RIFF" + struct.pack("<I", said + 36) + b"WAVEfmt "
    head += struct.pack("<IHHIIHH", 16, 1, channels, 8000, 8000 * 2 * channels, 2 * channels, 16)
    head += b"data" + struct.pack("<I", said)
    sparse(path, len(head) + (length if size is None else size), head)


def nifti_head(shape: tuple[int, ...], kind: int = 16, bits: int = 32, start: float = 352) -> bytes:
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, len(shape), *shape, *(1,) * (7 - len(shape)))
    struct.pack_into("<hh", head, 70, kind, bits)
    struct.pack_into("<8f", head, 76, *(1.0,) * 8)
    struct.pack_into("<f", head, 108, start)
    head[344:348] = b"n+1\0"
    return bytes(head)


def h5(path: Path, shape: tuple[int, ...], name: str = "x", **how: object) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset(name, shape, how.pop("dtype", "f4"), **how)


# ------------------------------------------------------------------------------------------------
# Cases
# ------------------------------------------------------------------------------------------------

CASES: dict[str, Case] = {}

#: Cases in which nothing is wrong: they end in a figure.
GOOD: set[str] = set()


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


def cases(name: str, **kinds: object) -> Callable[[Callable[..., str]], Callable[..., str]]:
    def enter(function: Callable[..., str]) -> Callable[..., str]:
        for kind, value in kinds.items():
            CASES[f"{function.__name__}[{kind}]"] = partial(function, **{name: value})
        return function

    return enter


def made(name: str, folder: Path) -> list[str]:
    """Write the files of a case, and return its command line."""
    models.save(models.random_cnn(0, (8, 8)), folder / "model.onnx")
    np.save(folder / "x.npy", images())
    return CASES[name](folder).split()


def with_points(folder: Path) -> None:
    models.save(letter_models.deep_sets(), folder / "model.onnx")


# Arrays.


@cases("said", true=9 * GIGA + 128, small=1000, huge=1 << 62)
def npz_of_9_GB(folder: Path, said: int) -> str:
    archive(folder / "x.npz", {"x.npy": (npy_head((12 * GIGA // 1024, 3, 8, 8)), 9 * GIGA, said)})
    return measure("x.npz")


@case
def npz_whose_array_says_more_than_it_has(folder: Path) -> str:
    archive(folder / "x.npz", {"x.npy": (npy_head((1 << 40, 3, 8, 8)), _PIECE, _PIECE + 128)})
    return measure("x.npz")


@case
def npz_with_labels_of_9_GB_beside(folder: Path) -> str:
    np.savez(folder / "good.npz", x=images())
    good = zipfile.ZipFile(folder / "good.npz").read("x.npy")
    archive(
        folder / "x.npz",
        {
            "x.npy": (good, 0, len(good)),
            "y.npy": (npy_head((9 * GIGA // 8,), "<i8"), 9 * GIGA, 9 * GIGA + 128),
        },
    )
    return measure("x.npz")


@case
def npz_with_long_texts_as_labels(folder: Path) -> str:
    head = npy_head((6,), f"<U{9 * GIGA // 24}")
    archive(folder / "y.npz", {"y.npy": (head, 9 * GIGA, 9 * GIGA + 128)})
    return measure(more="--labels y.npz")


@case
def npz_of_many_members(folder: Path) -> str:
    with zipfile.ZipFile(folder / "x.npz", "w") as file:
        for i in range(20000):
            file.writestr(f"{'long' * 20}{i}.npy", b"")
    return measure("x.npz:image")


@cases("said", true=None, one=1, nothing=0)
def gzip_of_an_idx_of_9_GB(folder: Path, said: int | None) -> str:
    head = bytes((0, 0, 8, 4)) + struct.pack(">4I", 9 * GIGA // 192, 3, 8, 8)
    packed(folder / "x.gz", head, 9 * GIGA, said=said)
    return measure("x.gz")


@case
def gzip_of_an_idx_with_9_GB_behind_it(folder: Path) -> str:
    packed(folder / "x.gz", bytes((0, 0, 8, 4)) + struct.pack(">4I", 6, 3, 8, 8), 9 * GIGA)
    return measure("x.gz")


@case
def gzip_of_no_idx_of_9_GB(folder: Path) -> str:
    packed(folder / "x.gz", b"nothing", 9 * GIGA)
    return measure("x.gz")


@case
def gzip_of_many_members(folder: Path) -> str:
    (folder / "x.gz").write_bytes(gzip.compress(b"") * 500_000)
    return measure("x.gz")


@case
def idx_of_255_axes(folder: Path) -> str:
    head = bytes((0, 0, 8, 255)) + struct.pack(">255I", *(2**32 - 1,) * 255)
    (folder / "x.idx").write_bytes(head)
    return measure("x.idx")


@case
def npy_of_one_sample_of_12_GB(folder: Path) -> str:
    sparse(folder / "x.npy", 12 * GIGA + 128, npy_head((2, 3, 2 * GIGA // 4, 1)))
    return measure()


@case
def npy_of_one_sample_of_12_GB_for_a_model_of_any_size(folder: Path) -> str:
    models.save(free_sizes(), folder / "model.onnx")
    sparse(folder / "x.npy", 12 * GIGA + 128, npy_head((2, 3, 1 << 14, 1 << 15)))
    return measure()


def free_sizes():
    model = models.random_cnn(0, (8, 8))
    for value, names in ((model.graph.input[0], "hw"),):
        for axis, name in zip((2, 3), names, strict=True):
            value.type.tensor_type.shape.dim[axis].ClearField("dim_value")
            value.type.tensor_type.shape.dim[axis].dim_param = name
    return model


@case
def npy_of_many_samples(folder: Path) -> str:
    size = 4 * GIGA
    sparse(folder / "x.npy", size + 128, npy_head((size // 192, 3, 8, 8), "|u1"))
    return measure()


GOOD.add("npy_of_many_samples")


@cases(
    "shape", huge=(1 << 62, 3, 8, 8), none=(1 << 62, 3, 8, 0), long=(1,) * 64, less=(-1, 3, 8, 8)
)
def npy_of_a_strange_shape(folder: Path, shape: tuple[int, ...]) -> str:
    (folder / "x.npy").write_bytes(npy_head(shape))
    return measure()


@case
def npy_with_a_head_of_a_megabyte(folder: Path) -> str:
    text = b"(" * (1 << 20) + b"\n"
    (folder / "x.npy").write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text)
    return measure()


@case
def npy_with_a_head_that_says_4_GB(folder: Path) -> str:
    sparse(folder / "x.npy", 5 * GIGA, b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1))
    return measure()


@case
def npy_with_a_number_of_100000_digits(folder: Path) -> str:
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"1" * 100_000 + b",)}\n"
    (folder / "x.npy").write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text)
    return measure()


@case
def npy_of_fields(folder: Path) -> str:
    head = npy_head((6,)).replace(b"'<f4'", b"[('a','<f4',(100000,100000))]")
    (folder / "x.npy").write_bytes(head)
    return measure()


@case
def hdf5_of_15_GB(folder: Path) -> str:
    h5(folder / "x.h5", (15 * GIGA // 768, 3, 8, 8), chunks=(1 << 14, 3, 8, 8))
    return measure("x.h5")


GOOD.add("hdf5_of_15_GB")


@case
def hdf5_of_one_sample_of_12_GB(folder: Path) -> str:
    h5(folder / "x.h5", (2, 3, 1 << 15, 1 << 15), chunks=(1, 1, 8, 8))
    return measure("x.h5")


@case
def hdf5_with_a_chunk_of_3_GB(folder: Path) -> str:
    import h5py

    path = folder / "x.h5"
    count = 3 * GIGA // 768
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "x", (count, 3, 8, 8), "f4", chunks=(count, 3, 8, 8), compression="gzip"
        )
        content = b"\x78\xda" + deflated(b"", 3 * GIGA)
        data.id.write_direct_chunk((0, 0, 0, 0), content + b"\0\0\0\1")
    return measure("x.h5")


@case
def hdf5_with_labels_of_9_GB(folder: Path) -> str:
    h5(folder / "y.h5", (9 * GIGA // 8,), "y", dtype="i8", chunks=(1024,))
    return measure(more="--labels y.h5")


@case
def hdf5_of_many_datasets(folder: Path) -> str:
    import h5py

    with h5py.File(folder / "x.h5", "w", libver="latest") as file:
        for i in range(5000):
            file.create_dataset(f"{'long' * 20}{i}", (0,), "f4")
    return measure("x.h5:/image")


@case
def hdf5_of_groups_in_groups(folder: Path) -> str:
    import h5py

    with h5py.File(folder / "x.h5", "w", libver="latest") as file:
        inner = file
        for _ in range(2000):
            inner = inner.create_group("g")
        inner["x"] = images()
        inner["back"] = h5py.SoftLink("/")
    return measure("x.h5")


@cases("chunk", small=(1, 3, 8, 8), large=(4096, 3, 8, 8))
def hdf5_whose_chunk_unpacks_to_more_than_it_says(folder: Path, chunk: tuple[int, ...]) -> str:
    import h5py

    with h5py.File(folder / "x.h5", "w") as file:
        data = file.create_dataset("x", (4096, 3, 8, 8), "f4", chunks=chunk, compression="gzip")
        content = b"\x78\xda" + deflated(b"", 3 * GIGA) + b"\0\0\0\1"
        for i in range(0, 4096, chunk[0]):
            data.id.write_direct_chunk((i, 0, 0, 0), content)
            if i > 5:
                break
    return measure("x.h5")


@cases(
    "kind",
    pipe="pipe",
    soft="soft",
    outside="outside",
    round="round",
    virtual_pipe="virtual_pipe",
    virtual_outside="virtual_outside",
)
def hdf5_that_leads_elsewhere(folder: Path, kind: str) -> str:
    import h5py

    data = folder / "data"
    data.mkdir()
    os.mkfifo(data / "p.h5")
    with h5py.File(folder / "other.h5", "w") as file:
        file["x"] = images()
    with h5py.File(data / "x.h5", "w") as file:
        named = "p.h5" if kind.endswith("pipe") else "../other.h5"
        if kind.startswith("virtual"):
            layout = h5py.VirtualLayout((6, 3, 8, 8), "f4")
            layout[...] = h5py.VirtualSource(named, "x", (6, 3, 8, 8))
            file.create_virtual_dataset("x", layout)
        elif kind == "soft":
            file["x"] = h5py.SoftLink("/y/z")
            file["y"] = h5py.ExternalLink("p.h5", "/")
        else:
            file["x"] = h5py.ExternalLink("x.h5" if kind == "round" else named, "x")
    return measure("data/x.h5:x")


# Labels, masks and other arrays beside the data.

_BESIDE = {
    "labels": "--labels {}",
    "target": "--target latent={} --measure symmetry-share@latent",
    "action": "--output-action latent={} --measure unexplained@latent",
    "masks": "--masks {}",
}


def _measured_with(option: str, path: str) -> str:
    line = measure(more=_BESIDE[option].format(path))
    return (
        line.replace("--group C4", "--group background:pictures/1") if option == "masks" else line
    )


for _option in _BESIDE:

    def _archive_beside(folder: Path, option: str) -> str:
        png(folder / "pictures" / "a.png", 8, 8)
        names = ("elements", "matrices") if option == "action" else ("y",)
        head = npy_head((9 * GIGA // 256, 8, 8))
        archive(folder / "y.npz", {f"{n}.npy": (head, 9 * GIGA, 9 * GIGA + 128) for n in names})
        return _measured_with(option, "y.npz")

    def _array_beside(folder: Path, option: str) -> str:
        png(folder / "pictures" / "a.png", 8, 8)
        sparse(folder / "y.npy", 12 * GIGA + 128, npy_head((6, GIGA // 2)))
        return _measured_with(option, "y.npy")

    CASES[f"archive_of_9_GB[{_option}]"] = partial(_archive_beside, option=_option)
    CASES[f"array_of_12_GB[{_option}]"] = partial(_array_beside, option=_option)


@case
def labels_of_each_place_of_12_GB(folder: Path) -> str:
    sparse(folder / "y.npy", 12 * GIGA + 128, npy_head((6, 1 << 15, 1 << 14), "<i4"))
    return measure(more="--labels y.npy")


@cases("kind", npy="npy", npz="npz")
def feed_of_9_GB(folder: Path, kind: str) -> str:
    models.save(models.two_input(), folder / "model.onnx")
    head, size = npy_head((9 * GIGA // 8, 2)), 9 * GIGA
    if kind == "npy":
        sparse(folder / "e.npy", size + 128, head)
    else:
        archive(folder / "e.npy", {"x.npy": (head, size, size + 128)})
    return measure(more="--feed extra=e.npy")


@cases("kind", nothing="V4", texts="U3", fields="f4,i4")
def feed_of_no_numbers(folder: Path, kind: str) -> str:
    models.save(models.two_input(), folder / "model.onnx")
    np.save(folder / "e.npy", np.zeros((6, 2), kind))
    return measure(more="--feed extra=e.npy")


@case
def mask_of_9_GB(folder: Path) -> str:
    models.save(letter_models.masked_sets(), folder / "model.onnx")
    np.save(folder / "x.npy", np.zeros((6, 16, 5), np.float32))
    sparse(folder / "m.npy", 9 * GIGA + 128, npy_head((9 * GIGA,), "|u1"))
    return (
        "measure model.onnx --data x.npy --group S16~4 --samples 3 --norm-samples 3 --out r.json "
        "--mask mask=m.npy"
    )


# Images.


def _image(folder: Path, make: Callable[[Path], object], more: str = "") -> str:
    (folder / "pictures").mkdir(exist_ok=True)
    make(folder / "pictures")
    return measure("pictures", more)


_SIZES = {
    "rgb": (13000, 13000, 2),
    "rgba": (13000, 13000, 6),
    "grey": (25000, 25000, 0),
    "16_bits": (13000, 13000, 16),
    "palette": (13000, 13000, 3),
    "wide": (1 << 30, 1, 2),
    "high": (1, 1 << 30, 2),
    "huge": ((1 << 31) - 1, (1 << 31) - 1, 2),
    "warned": (9500, 9500, 2),
    "quiet": (9400, 9400, 6),
}


@cases("size", **_SIZES)
def png_of_many_pixels(folder: Path, size: tuple[int, int, int]) -> str:
    width, height, colours = size
    return _image(
        folder,
        lambda p: (
            png(p / "a.png", min(width, 1 << 31), height, colours=colours)
            if width * height < GIGA
            else _head_of_png(p / "a.png", width, height)
        ),
    )


def _head_of_png(path: Path, width: int, height: int) -> None:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body)


@cases("size", rgb=(13000, 13000, 2), rgba=(9400, 9400, 6), grey=(13000, 13000, 0))
def png_of_many_pixels_made_small(folder: Path, size: tuple[int, int, int]) -> str:
    width, height, colours = size
    make = lambda p: png(p / "a.png", width, height, colours=colours)  # noqa: E731
    return _image(folder, make, "--preprocess resize=8x8")


@case
def png_of_many_pixels_for_a_model_of_any_size(folder: Path) -> str:
    models.save(free_sizes(), folder / "model.onnx")
    return _image(folder, lambda p: png(p / "a.png", 13000, 13000))


@cases("kind", zTXt=b"zTXt", iCCP=b"iCCP", iTXt=b"iTXt")
def png_with_a_text_of_9_GB(folder: Path, kind: bytes) -> str:
    body = b"\x78\xda" + deflated(b"", GIGA)
    ahead = b"a\0\1\0\0\0" if kind == b"iTXt" else b"a\0\0"
    return _image(folder, lambda p: png(p / "a.png", 8, 8, more=chunk(kind, ahead + body)))


@case
def png_with_more_transparent_colours_than_colours(folder: Path) -> str:
    more = chunk(b"tRNS", bytes(5000))
    return _image(folder, lambda p: png(p / "a.png", 8, 8, colours=3, more=more))


@case
def tiff_of_which_its_reader_logs_something(folder: Path) -> str:
    """It has 65,535 samples a pixel."""
    tags = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 200, 277: 65535, 278: 8, 279: 64}
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
    head += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return _image(folder, lambda p: (p / "a.tif").write_bytes(head + bytes(400)))


@cases("form", GIF="GIF", BMP="BMP", JPEG="JPEG", WEBP="WEBP", PPM="PPM")
def image_that_says_to_be_large(folder: Path, form: str) -> str:
    def make(pictures: Path) -> None:
        path = pictures / f"a.{form.lower()}"
        content = bytearray(picture(path, form))
        if form == "GIF":
            struct.pack_into("<HH", content, 6, 65535, 65535)
        elif form == "BMP":
            struct.pack_into("<ii", content, 18, 100_000, 100_000)
        elif form == "JPEG":
            struct.pack_into(">HH", content, content.index(b"\xff\xc0") + 5, 65535, 65535)
        elif form == "WEBP":
            struct.pack_into("<HH", content, 26, 16383, 16383)
        else:
            content[:] = content.replace(b"8 8", b"100000 100000", 1)
        path.write_bytes(content)

    return _image(folder, make)


@cases("compression", none=1, lzw=5, zip=8, jpeg=7)
def tiff_that_says_to_be_large(folder: Path, compression: int) -> str:
    return _image(folder, lambda p: tiff(p / "a.tiff", 100_000, 100_000, compression=compression))


@case
def gif_of_many_frames(folder: Path) -> str:
    from PIL import Image

    (folder / "pictures").mkdir()
    frame = Image.new("P", (8, 8))
    frames = [Image.new("P", (8, 8), i % 250) for i in range(3000)]
    frame.save(folder / "pictures" / "a.gif", save_all=True, append_images=frames)
    return measure("pictures")


GOOD.add("gif_of_many_frames")


@cases(
    "how",
    side="resize=100000",
    both="resize=100000x100000",
    cut="resize=100000 crop=8",
    wide="resize=8x1000000000",
    crop="crop=1000000",
    digits=f"resize={'9' * 5000}",
)
def resized_to_be_large(folder: Path, how: str) -> str:
    (folder / "how.json").write_text(
        json.dumps({k: _sides(v) for k, v in (part.split("=") for part in how.split())})
        if "9999" not in how
        else "{" + how.replace("resize=", '"resize":') + "}"
    )
    return measure(more="--preprocess how.json")


def _sides(text: str) -> int | list[int]:
    sides = [int(side) for side in text.split("x")]
    return sides[0] if len(sides) == 1 else sides


@case
def resized_by_the_models_metadata(folder: Path) -> str:
    model = models.with_metadata(
        models.random_cnn(0, (8, 8)), {"onnx_geed.preprocess": '{"resize": 100000}'}
    )
    models.save(model, folder / "model.onnx")
    return measure()


@case
def images_resized_to_be_large(folder: Path) -> str:
    return _image(folder, lambda p: png(p / "a.png", 8, 8), "--preprocess resize=100000")


@case
def background_of_many_pixels(folder: Path) -> str:
    png(folder / "pictures" / "a.png", 13000, 13000)
    np.save(folder / "m.npy", np.ones((6, 8, 8), np.uint8))
    return measure(more="--masks m.npy").replace("C4", "background:pictures/1")


@case
def background_that_is_a_line(folder: Path) -> str:
    png(folder / "pictures" / "a.png", 1, 50_000_000)
    np.save(folder / "m.npy", np.ones((6, 8, 8), np.uint8))
    return measure(more="--masks m.npy").replace("C4", "background:pictures/1")


@case
def masks_of_many_pixels(folder: Path) -> str:
    png(folder / "pictures" / "a.png", 8, 8)
    for i in range(6):
        png(folder / "masks" / f"{i}.png", 13000, 13000)
    return measure(more="--masks masks").replace("C4", "background:pictures/1")


# Recordings, volumes, points, sequences.


def lines(folder: Path) -> str:
    models.save(letter_models.circular_classifier(), folder / "model.onnx")
    (folder / "audio").mkdir()
    return f"measure model.onnx --data audio --group shift4 --input-layout NCT {_FEW} --out r.json"


@cases("frames", long=GIGA * 2 // 2 - 100, longest=(1 << 31) - 100)
def recording_of_4_GB(folder: Path, frames: int) -> str:
    line = lines(folder)
    wav(folder / "audio" / "a.wav", frames)
    return line


@case
def recording_of_many_channels(folder: Path) -> str:
    line = lines(folder)
    wav(folder / "audio" / "a.wav", GIGA // 1000, 1000)
    return line


@case
def flac_that_says_to_be_long(folder: Path) -> str:
    import soundfile

    line = lines(folder)
    path = folder / "audio" / "a.flac"
    soundfile.write(path, np.zeros(1000, np.int16), 8000)
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F
    content[22:26] = b"\xff" * 4
    path.write_bytes(content)
    return line


@case
def flac_of_silence(folder: Path) -> str:
    import soundfile

    line = lines(folder)
    with soundfile.SoundFile(folder / "audio" / "a.flac", "w", 8000, 2) as file:
        for _ in range(20):
            file.write(np.zeros((4_000_000, 2), np.int16))
    return line


def volumes(folder: Path) -> str:
    models.save(letter_models.volume_network(), folder / "model.onnx")
    (folder / "volumes").mkdir()
    return f"measure model.onnx --data volumes --group C4 {_FEW} --out r.json"


@cases(
    "shape",
    large=(1500, 1500, 1000),
    largest=(32767, 32767, 32767),
    less=(-1, 8, 8),
    axes=(8,) * 7,
)
def volume_of_9_GB(folder: Path, shape: tuple[int, ...]) -> str:
    line = volumes(folder)
    packed(folder / "volumes" / "a.nii.gz", nifti_head(shape), 9 * GIGA)
    return line


@cases("start", far=9e9, further=1e30, less=-5.0, nan=float("nan"))
def volume_that_begins_late(folder: Path, start: float) -> str:
    line = volumes(folder)
    head = nifti_head((5, 5, 5), start=start)
    extension = b"\1\0\0\0" + struct.pack("<ii", 2**31 - 16, 6)
    packed(folder / "volumes" / "a.nii.gz", head[:348] + extension, 9 * GIGA)
    return line


@case
def volume_that_lies_in_a_hole(folder: Path) -> str:
    line = volumes(folder)
    sparse(folder / "volumes" / "a.nii", 9 * GIGA, nifti_head((1500, 1500, 1000)))
    return line


def points(folder: Path) -> str:
    models.save(letter_models.distance_net(), folder / "model.onnx")
    (folder / "points").mkdir()
    return f"measure model.onnx --data points --group SO3~5 --input-layout NPX {_FEW} --out r.json"


@cases("count", many=300_000_000, most=10**18, digits=int("9" * 4000))
def ply_that_says_to_have_points(folder: Path, count: int) -> str:
    line = points(folder)
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {count}\n"
    head += "".join(f"property float {c}\n" for c in "xyz") + "end_header\n"
    (folder / "points" / "a.ply").write_bytes(head.encode() + bytes(120))
    return line


@cases("form", binary="binary_little_endian", text="ascii")
def ply_with_elements_of_nothing(folder: Path, form: str) -> str:
    line = points(folder)
    head = f"ply\nformat {form} 1.0\nelement nothing 1000000000\n"
    head += "element vertex 1\n" + "".join(f"property float {c}\n" for c in "xyz") + "end_header\n"
    (folder / "points" / "a.ply").write_bytes(head.encode() + b"0 0 0 0 0 0\n")
    return line


@case
def ply_with_a_list_that_says_to_be_long(folder: Path) -> str:
    line = points(folder)
    head = "ply\nformat binary_little_endian 1.0\nelement face 1\n"
    head += "property list uint int vertex_indices\nelement vertex 1\n"
    head += "".join(f"property float {c}\n" for c in "xyz") + "end_header\n"
    (folder / "points" / "a.ply").write_bytes(head.encode() + b"\xff" * 4 + bytes(120))
    return line


@case
def ply_in_a_hole(folder: Path) -> str:
    line = points(folder)
    head = "ply\nformat binary_little_endian 1.0\nelement vertex 800000000\n"
    head += "".join(f"property float {c}\n" for c in "xyz") + "end_header\n"
    sparse(folder / "points" / "a.ply", 9 * GIGA + len(head), head.encode())
    return line


@cases("text", zeros=b"0 0 0\n" * 20_000_000, empty=b"\n" * 100_000_000, digits=b"9" * 5000)
def points_of_many_lines(folder: Path, text: bytes) -> str:
    line = points(folder)
    (folder / "points" / "a.xyz").write_bytes(text)
    return line


@case
def points_in_a_hole(folder: Path) -> str:
    line = points(folder)
    sparse(folder / "points" / "a.xyz", 9 * GIGA)
    return line


def bases(folder: Path) -> str:
    models.save(letter_models.dna_network(), folder / "model.onnx")
    return (
        f"measure model.onnx --data x.fa.gz --group revcomp --input-layout NTB {_FEW} --out r.json"
    )


@case
def sequence_of_9_GB(folder: Path) -> str:
    line = bases(folder)
    packed(folder / "x.fa.gz", b">a\n", 9 * GIGA)
    return line


@cases("text", records=b">a\nA\n", lines=b"A\n")
def sequences_of_many_lines(folder: Path, text: bytes) -> str:
    line = bases(folder)
    with gzip.open(folder / "x.fa.gz", "wb", 1) as file:
        file.write(b">a\n" + text * (200_000_000 // len(text)))
    return line


@case
def sequence_in_a_hole(folder: Path) -> str:
    line = bases(folder).replace(".gz", "")
    sparse(folder / "x.fa", 9 * GIGA, b">a\n")
    return line


# Texts.


@cases(
    "text",
    many=b"1\n" * 30_000_000,
    empty=b"\n" * 100_000_000,
    digits=b"1" * 100_000 + b"\n2\n3\n4\n5\n6\n",
    other="٣\n²\n1\n1\n1\n1\n".encode(),
    long=b"a" * 100_000_000,
)
def labels_in_a_text(folder: Path, text: bytes) -> str:
    (folder / "y.txt").write_bytes(text)
    return measure(more="--labels y.txt")


@cases(
    "content",
    deep="[" * 100_000,
    digits='{"scale": ' + "9" * 100_000 + "}",
    surrogate='{"resize": "\\ud800"}',
    large='{"mean": [' + "0," * 30_000_000 + "0]}",
    many='{"mean": [' + "1e-1," * 3_000_000 + "0]}",
)
def preprocessing_in_json(folder: Path, content: str) -> str:
    (folder / "how.json").write_text(content)
    return measure(more="--preprocess how.json")


@case
def preprocessing_in_a_hole(folder: Path) -> str:
    sparse(folder / "how.json", 9 * GIGA)
    return measure(more="--preprocess how.json")


@cases(
    "content",
    deep="models = " + "[" * 60_000,
    tables="models = " + "{a=" * 20_000,
    dotted=".".join("a" * 20_000) + " = 1",
    dots="\n".join(f"a{i}." + ".".join("a" * 99) + " = 1" for i in range(10_000)),
    headers="[" + ".".join("a" * 20_000) + "]",
    digits="samples = " + "9" * 60_000,
    fewer="samples = " + "9" * 5_000,
    hex="samples = 0x" + "f" * 60_000,
    date="samples = 9999-99-99",
    surrogate='title = "\\ud800"',
    long="title = '" + "a" * 50_000_000 + "'",
    many="\n".join(f"a{i} = 1" for i in range(2_000_000)),
    comment="#" + "a" * 300_000_000,
)
def suite(folder: Path, content: str) -> str:
    (folder / "s.toml").write_text(content)
    return "benchmark s.toml --out results"


@cases("pattern", all="/**", any="/**/*.onnx", processes="/proc/**/*", places="/{a}/{b}/{c}")
def suite_of_all_files(folder: Path, pattern: str) -> str:
    entry = f'[[models]]\nname = "m"\npath = "{pattern}"\n[[data]]\nname = "d"\npath = "x.npy"\n'
    (folder / "s.toml").write_text(f'groups = ["C4"]\n{entry}')
    return "benchmark s.toml --out results"


@case
def folders_whose_links_lead_to_each_other(folder: Path) -> str:
    (folder / "images").mkdir()
    for i in range(12):
        png(folder / "images" / f"f{i}" / "a.png", 8, 8)
        for j in range(12):
            (folder / "images" / f"f{i}" / f"to{j}").symlink_to(folder / "images" / f"f{j}")
    return measure("images")


@cases("packing", bz2=zipfile.ZIP_BZIP2, lzma=zipfile.ZIP_LZMA)
def archive_that_unpacks_all_at_once(folder: Path, packing: int) -> str:
    with (
        zipfile.ZipFile(folder / "x.npz", "w", packing) as file,
        file.open("x.npy", "w", force_zip64=True) as member,
    ):
        member.write(npy_head((GIGA // 4 // 768, 3, 8, 8)))
        for _ in range(16):
            member.write(bytes(GIGA // 16))
    return measure("x.npz")


@case
def image_that_a_program_draws(folder: Path) -> str:
    (folder / "images").mkdir()
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    (folder / "images" / "0.png").write_bytes(content)
    return measure("images")


@case
def suite_in_a_hole(folder: Path) -> str:
    sparse(folder / "s.toml", 9 * GIGA)
    return "benchmark s.toml --out results"


@cases(
    "option",
    batch="--batch-size 1000000000",
    batch_of_many="--batch-size 100000",
    samples="--samples 1000000000",
    points="--norm-samples 1000000000",
    memory="--memory 1000TB",
    small="--memory 1B",
    seed=f"--seed {2**63}",
    cyclic="--group C100000000",
    shifts="--group shift9999x9999",
    sampled="--group SO2~1000000000",
    family="--group rotation:0..360/1000000000",
    product="--group " + "*".join(["C2"] * 20_000),
    no_time="--isolate --time-limit nan",
    endless="--isolate --time-limit inf",
    long_time="--isolate --time-limit 1e300",
)
def option_of_a_large_number(folder: Path, option: str) -> str:
    return f"{measure()} {option}"


@case
def batch_of_many_for_a_cache(folder: Path) -> str:
    line = (
        "cache model.onnx --data x.npy --group C4 --layer latent -o c.geed --batch-size 1000000000"
    )
    return f"{line} {_FEW}"


GOOD |= {
    f"option_of_a_large_number[{name}]"
    for name in ("batch", "batch_of_many", "samples", "points", "memory", "small", "seed")
}
GOOD |= {"labels_in_a_text[digits]", "labels_in_a_text[other]", "batch_of_many_for_a_cache"}
GOOD.add("classes_in_a_text[long]")


@cases("text", many="a\n" * 30_000_000, long="a" * 100_000_000 + "\nb\nc\nd\ne", same="a\na\n")
def classes_in_a_text(folder: Path, text: str) -> str:
    (folder / "c.txt").write_text(text)
    return "annotate model.onnx --classes c.txt -o out.onnx"


@case
def classes_in_a_hole(folder: Path) -> str:
    sparse(folder / "c.txt", 9 * GIGA)
    return "annotate model.onnx --classes c.txt -o out.onnx"


@case
def model_in_a_hole(folder: Path) -> str:
    sparse(folder / "model.onnx", 9 * GIGA)
    return "layers model.onnx"


@cases("command", report="report r.json -o o.html", compare="compare r.json r.json -o o.json")
def result_in_a_hole(folder: Path, command: str) -> str:
    sparse(folder / "r.json", 9 * GIGA)
    return command


# What is no file.

_READERS = {
    "model": ("layers {}", ".onnx"),
    "model_measured": ("measure {} --data x.npy --group C4 --out r.json", ".onnx"),
    "data": (measure("{}"), ".npy"),
    "data_npz": (measure("{}"), ".npz"),
    "data_h5": (measure("{}"), ".h5"),
    "data_key": (measure("{}:x"), ".h5"),
    "data_idx": (measure("{}"), ".gz"),
    "data_fasta": (measure("{}"), ".fa"),
    "labels": (measure(more="--labels {}"), ".npy"),
    "labels_text": (measure(more="--labels {}"), ".txt"),
    "feed": ("measure two.onnx --data x.npy --group C4 --feed extra={} --out r.json", ".npy"),
    "target": (measure(more="--target latent={} --measure symmetry-share@latent"), ".npy"),
    "action": (measure(more="--output-action latent={} --measure unexplained@latent"), ".npz"),
    "masks": (measure(more="--masks {}").replace("C4", "background:good/1"), ".npy"),
    "preprocess": (measure(more="--preprocess {}"), ".json"),
    "suite": ("benchmark {} --out results", ".toml"),
    "report": ("report {} -o o.html", ".json"),
    "compare": ("compare {0} {0}", ".json"),
    "aggregate": ("aggregate {0} {0}", ".json"),
    "merge": ("merge {0} {0} -o r.json", ".json"),
    "cache": ("cache --info {}", ".geed"),
    "measured_cache": ("measure {} --out r.json", ".geed"),
    "classes": ("annotate model.onnx --classes {} -o out.onnx", ".txt"),
}

_IN_FOLDERS = {
    "image": ("folder/a.png", measure("folder")),
    "background": (
        "folder/a.png",
        measure(more="--masks m.npy").replace("C4", "background:folder/1"),
    ),
    "mask": (
        "folder/a.png",
        measure("one.npy", "--masks folder").replace("C4", "background:good/1"),
    ),
    "array": ("folder/a.npy", measure("folder")),
    "recording": ("folder/a.wav", lines),
    "volume": ("folder/a.nii.gz", volumes),
    "volume_plain": ("folder/a.nii", volumes),
    "points": ("folder/a.xyz", points),
    "ply": ("folder/a.ply", points),
}

_WRITERS = {
    "measure": (measure().replace("r.json", "{}"), ".json"),
    "junit": (
        measure(more="--junit {} --fail-above latent-l2=100").replace("--out r.json", ""),
        ".xml",
    ),
    "cache": (measure(more="--cache {}"), ".geed"),
    "fit": (
        "fit model.onnx --data x.npy --group C4 --layer latent --samples 3 --fit-samples 2 "
        "--fit-anyway -o {}",
        ".npz",
    ),
    "compile": ("compile model.onnx --group C4 -o {}", ".onnx"),
    "annotate": ("annotate model.onnx --preprocess unit -o {}", ".onnx"),
    "cache_alone": (
        f"cache model.onnx --data x.npy --group C4 --layer latent {_FEW} -o {{}}",
        ".geed",
    ),
}


def _node(path: Path, kind: str) -> None:
    """Make something at a place that is no file."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            here = os.getcwd()
            os.chdir(path.parent)  # names of sockets are short
            try:
                one.bind(path.name)
            finally:
                os.chdir(here)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path.name)
    else:
        path.mkdir()


def _read_from(folder: Path, what: str, kind: str) -> str:
    line, suffix = _READERS[what]
    models.save(models.two_input(), folder / "two.onnx")
    png(folder / "good" / "a.png", 8, 8)
    _node(folder / f"node{suffix}", kind)
    return line.format(f"node{suffix}")


def _read_in_a_folder(folder: Path, what: str, kind: str) -> str:
    name, line = _IN_FOLDERS[what]
    png(folder / "good" / "a.png", 8, 8)
    np.save(folder / "m.npy", np.ones((6, 8, 8), np.uint8))
    np.save(folder / "one.npy", images(1))
    if callable(line):
        words = line(folder).split()
        line = " ".join("folder" if w in ("audio", "volumes", "points") else w for w in words)
    (folder / "folder").mkdir()
    _node(folder / name, kind)
    return line


def _written_to(folder: Path, what: str, kind: str) -> str:
    line, suffix = _WRITERS[what]
    _node(folder / f"node{suffix}", kind)
    return line.format(f"node{suffix}")


for _kind in ("fifo", "socket", "device", "folder", "loop"):
    for _what in _READERS:
        CASES[f"{_what}_from_a_{_kind}"] = partial(_read_from, what=_what, kind=_kind)
    for _what in _IN_FOLDERS:
        CASES[f"{_what}_in_a_folder_that_is_a_{_kind}"] = partial(
            _read_in_a_folder, what=_what, kind=_kind
        )
    for _what in _WRITERS:
        CASES[f"{_what}_written_to_a_{_kind}"] = partial(_written_to, what=_what, kind=_kind)


def cached(folder: Path) -> Path:
    """Write a cache in a folder, and return its shard."""
    import onnx_geed

    onnx_geed.write_cache(
        folder / "model.onnx",
        images(),
        "C4",
        folder / "c.geed",
        samples=3,
        norm_samples=6,
        measures=["unexplained@latent"],
        provider="cpu",
        output_action={"latent": _table()},
    )
    (shard,) = (folder / "c.geed").glob("shard-*")
    return shard


def _table():
    import onnx_geed

    values = np.stack([np.eye(6)] * 4)
    return onnx_geed.Table(onnx_geed.parse_group("C4").elements, "matrices", values, "ours")


_CACHE_COMMANDS = ("cache --info c.geed", "cache --verify c.geed", "measure c.geed --out r.json")


@cases(
    "kind", fifo="fifo", socket="socket", device="device", loop="loop", hole="hole", zeros="zeros"
)
def shard_of_a_cache(folder: Path, kind: str) -> str:
    shard = cached(folder)
    shard.unlink()
    if kind in ("hole", "zeros"):
        sparse(shard, 9 * GIGA, b"\x89HDF\r\n\x1a\n" if kind == "hole" else b"")
    else:
        _node(shard, kind)
    return "cache --verify c.geed"


@cases("command", info=0, verify=1, measure=2)
@cases("dataset", manifest="manifest", samples="samples")
def sealed_shard_of_9_GB(folder: Path, dataset: str = "manifest", command: int = 1) -> str:
    import io

    import h5py

    from onnx_geed.cache.shard_file import seal

    shard = cached(folder)
    content = io.BytesIO(shard.read_bytes())
    with h5py.File(content, "r+") as file:
        kind = file[dataset].dtype
        del file[dataset]
        file.create_dataset(dataset, (9 * GIGA // kind.itemsize,), kind, chunks=(1024,))
    whole = content.getvalue()
    shard.write_bytes(whole + seal(memoryview(whole), []))
    return _CACHE_COMMANDS[command]


@cases("kind", fifo="fifo", zip="zip", loop="loop")
def matrices_of_a_cache(folder: Path, kind: str) -> str:
    cached(folder)
    path = folder / "c.geed" / "matrices.npz"
    with zipfile.ZipFile(path) as file:
        (name,) = file.namelist()
    path.unlink()
    if kind == "zip":
        head = npy_head((9 * GIGA // 8, 1, 1), "<f8")
        archive(path, {name: (head, 9 * GIGA, 9 * GIGA + 128)})
    else:
        _node(path, kind)
    return "cache --verify c.geed"


@case
def model_of_2_GB_in_a_hole(folder: Path) -> str:
    sparse(folder / "model.onnx", 2 * GIGA - 1)
    return "layers model.onnx"


@cases("kind", fifo="fifo", device="device")
def weights_from(folder: Path, kind: str) -> str:
    models.save_external(folder)
    (name,) = (p.name for p in folder.iterdir() if p.suffix not in (".onnx", ".npy"))
    (folder / name).unlink()
    _node(folder / name, kind)
    return "layers model.onnx"
