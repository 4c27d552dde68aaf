"""The course's images: embedded, verified, and bytes until they reach the device.

MNIST is here whole, CIFAR-10 in part (`data/README.md` says where each comes from); the whole of CIFAR-10 is read from
a folder or fetched by torchvision. `load_images` gives them by name, `batches` shuffles them, `normalize` takes them to
[-1, 1], where diffusion models work, and `denormalize` back.
"""

from course_utils.data.batching import as_batch, as_labels, batches
from course_utils.data.cifar10 import read_cifar10
from course_utils.data.embedded import decode_labels, decode_mosaic, pixels_sha256
from course_utils.data.images import CLASSES, SPLITS, load_images
from course_utils.data.pixels import denormalize, normalize, random_flip, shifted
from course_utils.files import DataError, data_dir, write_atomically
from course_utils.runtime import moved

__all__ = [
    "CLASSES",
    "SPLITS",
    "DataError",
    "as_batch",
    "as_labels",
    "batches",
    "data_dir",
    "decode_labels",
    "decode_mosaic",
    "denormalize",
    "load_images",
    "moved",
    "normalize",
    "pixels_sha256",
    "random_flip",
    "read_cifar10",
    "shifted",
    "write_atomically",
]
