import struct
import zlib

import numpy as np
import PIL
import pytest
from PIL import Image

from onnx_geed import GeedError, Preprocess
from onnx_geed.data.images import decode, resize_and_crop

PLAIN = Preprocess()
RNG = np.random.default_rng(0)


def read(path, preprocess=PLAIN, grey=False):
    return decode(path, preprocess, grey=grey, name="it")


def colours(height=4, width=6):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_png_is_decoded_to_its_bytes_by_255(tmp_path):
    pixels = colours()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    x = read(tmp_path / "a.png")
    np.testing.assert_array_equal(x, pixels.transpose(2, 0, 1) / np.float32(255))
    assert x.dtype == np.float32
    assert x.flags.c_contiguous


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :8] = (255, 0, 0)
    upright[8:, 16:] = (0, 0, 255)
    # How the camera stored it: the inverse of what the tag asks the reader to do.
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    image.save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    x = read(tmp_path / "a.jpg")
    np.testing.assert_allclose(x, upright.transpose(2, 0, 1) / 255, atol=0.05)


def test_alpha_is_shown_on_black(tmp_path):
    pixels = np.dstack([colours(), np.full((4, 6), 255, np.uint8)])
    pixels[0, :, 3] = 0
    pixels[1, :, 3] = 51
    Image.fromarray(pixels).save(tmp_path / "a.png")
    x = read(tmp_path / "a.png")
    assert (x[:, 0] == 0).all()
    rgb = pixels[..., :3].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(x[:, 1], rgb[:, 1] / 5, atol=0.003)
    np.testing.assert_allclose(x[:, 2:], rgb[:, 2:], atol=1e-6)


def test_grey_with_alpha_is_shown_on_black(tmp_path):
    pixels = np.full((2, 2, 2), 200, dtype=np.uint8)
    pixels[0, :, 1] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    x = read(tmp_path / "a.png", grey=True)
    assert (x[0, 0] == 0).all()
    np.testing.assert_allclose(x[0, 1], 200 / 255 * 200 / 255, atol=0.003)


@pytest.mark.parametrize("grey", [False, True])
def test_16_bit_grey_keeps_all_its_bits(tmp_path, grey):
    values = np.array([[0, 1, 257], [32768, 65534, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    x = read(tmp_path / "a.png", grey=grey)
    assert x.shape == (1 if grey else 3, 2, 3)
    np.testing.assert_array_equal(x, np.broadcast_to(values / np.float32(65535), x.shape))


def test_16_bit_grey_is_resized_and_cropped_too(tmp_path):
    values = np.repeat(np.arange(8, dtype=np.uint16)[None] * 8000, 8, axis=0)
    Image.fromarray(values).save(tmp_path / "a.tif")
    x = read(tmp_path / "a.tif", Preprocess(crop=4), grey=True)
    np.testing.assert_allclose(x[0], values[2:6, 2:6] / 65535, rtol=1e-6)


def test_grey_images_of_more_than_16_bits_are_refused(tmp_path):
    Image.fromarray(np.array([[0, 70000]], dtype=np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(GeedError, match="outside 0 to 65535"):
        read(tmp_path / "a.tif")


def test_floating_point_images_are_taken_as_they_are(tmp_path):
    values = np.array([[0.0, -0.25], [0.5, 1.5]], dtype=np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read(tmp_path / "a.tif", grey=True)[0], values)


def test_a_palette_is_looked_up(tmp_path):
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([2, 0, 1])
    image.save(tmp_path / "a.png")
    x = read(tmp_path / "a.png")
    np.testing.assert_allclose(x[:, 0] * 255, [[70, 10, 40], [80, 20, 50], [90, 30, 60]], rtol=1e-6)


def test_a_transparent_palette_entry_is_black(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    image.save(tmp_path / "a.gif", transparency=0)
    image.save(tmp_path / "b.png", transparency=b"\0\xff")
    for name in ("a.gif", "b.png"):
        x = read(tmp_path / name)
        np.testing.assert_allclose(x[:, 0] * 255, [[0, 40], [0, 50], [0, 60]], rtol=1e-6)


def test_the_transparent_grey_of_16_bits_is_black(tmp_path):
    pixels = RNG.integers(1, 65536, (4, 6)).astype(np.uint16)
    pixels[1, 2] = pixels[2, 4] + 1  # next to it, and shown
    Image.fromarray(pixels).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    clear = b"tRNS" + struct.pack(">H", pixels[2, 4])
    chunk = struct.pack(">I", 2) + clear + struct.pack(">I", zlib.crc32(clear))
    head = content.index(b"IDAT") - 4
    (tmp_path / "b.png").write_bytes(content[:head] + chunk + content[head:])
    wanted = np.where(pixels == pixels[2, 4], 0, pixels) / 65535
    np.testing.assert_allclose(read(tmp_path / "a.png", grey=True)[0], pixels / 65535, rtol=1e-6)
    np.testing.assert_allclose(read(tmp_path / "b.png", grey=True)[0], wanted, rtol=1e-6)
    np.testing.assert_allclose(read(tmp_path / "b.png"), np.stack([wanted] * 3), rtol=1e-6)


def test_grey_becomes_colour_and_colour_grey(tmp_path):
    Image.fromarray(np.full((2, 2), 100, np.uint8)).save(tmp_path / "grey.png")
    Image.new("RGB", (2, 2), (255, 0, 0)).save(tmp_path / "red.png")
    np.testing.assert_allclose(
        read(tmp_path / "grey.png"), np.full((3, 2, 2), 100 / 255), rtol=1e-6
    )
    red = read(tmp_path / "red.png", grey=True)
    np.testing.assert_allclose(red, np.full((1, 2, 2), 0.299), atol=0.003)


def test_bilevel_and_cmyk_images_are_read(tmp_path):
    Image.new("1", (2, 2), 1).save(tmp_path / "a.png")
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "b.jpg")
    assert (read(tmp_path / "a.png") == 1).all()
    np.testing.assert_allclose(read(tmp_path / "b.jpg")[:, 0, 0], [1, 0, 0], atol=0.02)


@pytest.mark.parametrize(
    ("resize", "size"), [(8, (8, 13)), ((5, 7), (5, 7)), (30, (30, 51)), (None, (10, 17))]
)
def test_resizing_sets_the_shorter_side_or_both(tmp_path, resize, size):
    Image.fromarray(colours(10, 17)).save(tmp_path / "a.png")
    preprocess = Preprocess(resize=resize)
    assert read(tmp_path / "a.png", preprocess).shape == (3, *size)
    assert resize_and_crop(np.zeros((2, 10, 17), np.float32), preprocess, name="").shape == (
        2,
        *size,
    )
    tall = np.zeros((17, 10), np.float32)
    expected = size if isinstance(resize, tuple) else size[::-1]
    assert resize_and_crop(tall, preprocess, name="").shape == expected


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_shrinking_is_antialiased(interpolation):
    stripes = np.tile(np.float32([0, 1]), (64, 32))
    small = resize_and_crop(stripes, Preprocess(resize=8, interpolation=interpolation), name="")
    np.testing.assert_allclose(small[2:-2, 2:-2], 0.5, atol=0.02)


def test_nearest_takes_values_that_are_there():
    x = RNG.random((9, 9), dtype=np.float32)
    assert np.isin(
        resize_and_crop(x, Preprocess(resize=5, interpolation="nearest"), name=""), x
    ).all()


def test_the_crop_is_central():
    x = np.arange(49, dtype=np.float32).reshape(1, 7, 7)
    np.testing.assert_array_equal(resize_and_crop(x, Preprocess(crop=3), name=""), x[:, 2:5, 2:5])
    np.testing.assert_array_equal(resize_and_crop(x, Preprocess(crop=(1, 7)), name=""), x[:, 3:4])


def test_files_and_planes_are_resized_alike(tmp_path):
    pixels = colours(40, 60)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    preprocess = Preprocess(resize=20, crop=(16, 18))
    planes = resize_and_crop(pixels.transpose(2, 0, 1) / np.float32(255), preprocess, name="")
    np.testing.assert_allclose(read(tmp_path / "a.png", preprocess), planes, atol=1.01 / 255)


def test_a_crop_larger_than_the_image_is_refused(tmp_path):
    Image.fromarray(colours()).save(tmp_path / "a.png")
    with pytest.raises(GeedError, match="it: 4×6 is smaller than crop=5x5"):
        read(tmp_path / "a.png", Preprocess(crop=5))


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "gone"])
def test_a_damaged_file_is_named(tmp_path, kind):
    path = tmp_path / "a.jpg"
    Image.fromarray(colours(64, 64)).save(path)
    content = {"empty": b"", "text": b"hello", "cut": path.read_bytes()[:400], "gone": None}[kind]
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(GeedError, match=r"^it: cannot be decoded as an image") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def tiff(path, pixels, bits, photometric, packed, order="<", samples=1, orientation=1):
    """Write a TIFF of one strip by hand."""
    height, width = pixels
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, bits),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, 8),
        (274, 3, 1, orientation),
        (277, 3, 1, samples),
        (278, 4, 1, height),
        (279, 4, 1, len(packed)),
    ]
    head = struct.pack(f"{order}2sHI", {"<": b"II", ">": b"MM"}[order], 42, 8 + len(packed))
    table = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        form = "HH" if kind == 3 else "I"
        value = (value, 0) if kind == 3 else (value,)
        table += struct.pack(f"{order}HHI{form}", tag, kind, count, *value)
    path.write_bytes(head + packed + table + bytes(4))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", [1, 3])
def test_16_bit_tiff_is_read_in_either_order_of_bytes_and_turned(tmp_path, order, orientation):
    values = RNG.integers(0, 65536, (3, 4)).astype(f"{order}u2")
    tiff(tmp_path / "a.tif", (3, 4), 16, 1, values.tobytes(), order, orientation=orientation)
    upright = values[::-1, ::-1] if orientation == 3 else values
    x = read(tmp_path / "a.tif", grey=True)
    np.testing.assert_allclose(x[0], upright.astype(np.float32) / 65535, atol=1e-7)


def test_zero_is_white_where_a_tiff_says_so(tmp_path):
    values = RNG.integers(0, 65536, (3, 4)).astype("<u2")
    tiff(tmp_path / "a.tif", (3, 4), 16, 0, values.tobytes())
    x = read(tmp_path / "a.tif", grey=True)
    np.testing.assert_allclose(x[0], 1 - values.astype(np.float64) / 65535, atol=1e-6)
    small = RNG.integers(0, 256, (3, 4)).astype("u1")
    tiff(tmp_path / "b.tif", (3, 4), 8, 0, small.tobytes())
    np.testing.assert_allclose(read(tmp_path / "b.tif", grey=True)[0], 1 - small / 255, atol=1e-6)


def test_white_of_12_bits_is_4095(tmp_path):
    values = np.array([[0, 4095, 2048, 17]])
    bits = "".join(f"{v:012b}" for v in values[0])
    packed = int(bits, 2).to_bytes(6, "big")
    tiff(tmp_path / "a.tif", (1, 4), 12, 1, packed)
    np.testing.assert_allclose(read(tmp_path / "a.tif", grey=True)[0], values / 4095, atol=1e-6)


@pytest.mark.parametrize("grey", [False, True])
def test_lab_becomes_the_colours_that_it_means(tmp_path, grey):
    # L* of 54.3, a* 81 and b* 70 (white is D50) are the red of sRGB, which is a grey of 0.299.
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[...] = (round(54.3 * 2.55), 81, 70)
    Image.fromarray(pixels, "LAB").save(tmp_path / "a.tif")
    x = read(tmp_path / "a.tif", grey=grey)
    wanted = [0.299] if grey else [1, 0, 0]
    np.testing.assert_allclose(x[:, 0, 0], wanted, atol=0.03)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("grey", [False, True])
def test_kinds_of_pixels_of_one_image_are_alike(tmp_path, mode, grey):
    """White and black look the same in all of them, and so does a grey where there is one."""
    if mode == "YCbCr" and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("Pillow before 13 reads no YCbCr of TIFF files, its own among them")
    pixels = np.zeros((2, 4), np.uint8)
    pixels[:, 1:3] = (255, 128)
    Image.fromarray(pixels).convert("RGB").convert(mode).save(tmp_path / "a.tif")
    x = read(tmp_path / "a.tif", grey=grey)
    shown = slice(0, 2) if mode in ("1", "P", "PA") else slice(0, 3)
    wanted = np.broadcast_to(pixels[0, shown] / 255, x[:, 0, shown].shape)
    np.testing.assert_allclose(x[:, 0, shown], wanted, atol=0.01)
