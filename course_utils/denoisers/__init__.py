"""Networks that denoise, and the wrapper that makes a denoiser of them."""

from course_utils.denoisers.attention import AttentionDenoiser
from course_utils.denoisers.cnn import PlainCNN
from course_utils.denoisers.dae import DAE
from course_utils.denoisers.table import Description, compare, describe
from course_utils.denoisers.unet import UNet
from course_utils.denoisers.wrapper import Denoiser

__all__ = ["DAE", "AttentionDenoiser", "Denoiser", "Description", "PlainCNN", "UNet", "compare", "describe"]
