"""The fifteen corruptions of ImageNet-C, as the package ``imagecorruptions`` makes them."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from onnx_geed.errors import GeedError, known_names, nearest
from onnx_geed.extras import package
from onnx_geed.groups.photometric import from_bytes, to_bytes
from onnx_geed.whole import whole

__all__ = ["CORRUPTIONS", "SEVERITIES", "check_corruption", "corrupted"]

F32 = NDArray[np.float32]

#: Their names, in the order of the paper.
CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)

SEVERITIES = (1, 2, 3, 4, 5)

# Those that draw from a generator of their own, and not from the one that all of NumPy shares.
_OWN_GENERATOR = ("impulse_noise", "glass_blur")

# NumPy's shared generator is seeded for one image at a time.
_ALONE = threading.Lock()


def check_corruption(name: str) -> str:
    """Make sure that there is a corruption of some name, and return what its group is called.

    Raises
    ------
    GeedError
        If there is none.
    """
    where = f"group imagenet-c:{name}"
    if name not in CORRUPTIONS:
        raise GeedError(
            f"{where}: choose from {known_names(CORRUPTIONS)}.{nearest(name, CORRUPTIONS)}"
        )
    return where


def corrupted(image: F32, name: str, severity: int, *, seed: tuple[int, ...]) -> F32:
    """Return an image as ImageNet-C corrupts it.

    Parameters
    ----------
    image : ndarray of float32, shape (3, H, W)
        RGB in [0, 1], of 32 pixels each way at least. Clipped and rounded to 8 bits first.
    name : str
        One of :data:`CORRUPTIONS`.
    severity : {1, 2, 3, 4, 5}
        How strong, by the paper's numbers, which are meant for photos of about 224 pixels.
    seed : tuple of int
        Not negative: the run's seed, the sample and the member. What is drawn follows from it.

    Returns
    -------
    ndarray of float32, shape (3, H, W)
        255ths in [0, 1].

    Raises
    ------
    GeedError
        If there is no such corruption or severity.
        If the image has not 3 channels, or is too small.
        If the package is not installed, or fails.
    """
    where = check_corruption(name)
    if severity not in SEVERITIES:
        raise GeedError(f"{where}: severities must be 1, 2, 3, 4 or 5; found {severity:g}")
    if image.ndim != 3 or len(image) != 3 or min(image.shape[1:]) < 32:
        raise GeedError(
            f"{where}: corrupts RGB images of 32×32 pixels or more (channels × height × width), "
            f"and the input is {'×'.join(map(str, image.shape))}"
        )
    made = package("imagecorruptions", "imagenet-c", where)
    number = int(np.random.SeedSequence(seed).generate_state(1)[0])
    own = {"seed": number} if name in _OWN_GENERATOR else {}
    pixels = np.ascontiguousarray(np.moveaxis(to_bytes(image), 0, -1))
    with whole(), _ALONE:
        before = np.random.get_state()  # noqa: NPY002
        np.random.seed(number)  # noqa: NPY002
        try:
            seen = made.corrupt(pixels, corruption_name=name, severity=int(severity), **own)
        except Exception as error:  # the older package of the same name fails in many ways
            raise GeedError(
                f"{where}: the package imagecorruptions fails ({' '.join(str(error).split())[:160]}"
                "); pip install 'onnx-geed[imagenet-c]'"
            ) from None
        finally:
            np.random.set_state(before)  # noqa: NPY002
    return from_bytes(np.ascontiguousarray(np.moveaxis(np.asarray(seen), -1, 0)))
