"""Networks that denoise, and the wrapper that makes a denoiser of them."""

from course_utils.denoisers.attention import AttentionDenoiser
from course_utils.denoisers.clips import ClipDenoiser
from course_utils.denoisers.cnn import PlainCNN
from course_utils.denoisers.costs import Description, compare, describe
from course_utils.denoisers.dae import DAE
from course_utils.denoisers.denoiser import Denoiser
from course_utils.denoisers.dit import DiT
from course_utils.denoisers.swin import Swin
from course_utils.denoisers.unet import UNet

__all__ = [
    "DAE",
    "AttentionDenoiser",
    "ClipDenoiser",
    "Denoiser",
    "Description",
    "DiT",
    "PlainCNN",
    "Swin",
    "UNet",
    "compare",
    "describe",
]
