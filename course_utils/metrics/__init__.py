"""How good samples are: distances between sets of images, in the features of a classifier of our own.

FID depends on the features, on the number of images and on the reference: a figure without them, and without its floor
(the FID of real images against real images, as many), says nothing. Lesson 09 takes it apart, and the other measures:
KID, precision and recall, nearest training images, a classifier that has seen nothing but samples.
"""

from course_utils.metrics.distances import chance_fid, fid, fid_interval, gaussian_chance_fid, kid
from course_utils.metrics.drawing import draw_images
from course_utils.metrics.estimates import Estimate, mean_difference, over_seeds, share, subset
from course_utils.metrics.evaluation import GRIDS, SAMPLERS, Accuracy, Score, accuracy, evaluate, noisy_accuracy
from course_utils.metrics.modes import Modes, SetScore, draw_generated, mode_coverage, reverse_kl, score_images
from course_utils.metrics.neighbours import Coverage, copied, nearest, precision_recall, ratio_test, two_nearest
from course_utils.metrics.real_images import Reference, floor_of, reference
from course_utils.metrics.samples_only import samples_only_accuracy

__all__ = [
    "GRIDS",
    "SAMPLERS",
    "Accuracy",
    "Coverage",
    "Estimate",
    "Modes",
    "Reference",
    "Score",
    "SetScore",
    "accuracy",
    "chance_fid",
    "copied",
    "draw_generated",
    "draw_images",
    "evaluate",
    "fid",
    "fid_interval",
    "floor_of",
    "gaussian_chance_fid",
    "kid",
    "mean_difference",
    "mode_coverage",
    "nearest",
    "noisy_accuracy",
    "over_seeds",
    "precision_recall",
    "ratio_test",
    "reference",
    "reverse_kl",
    "samples_only_accuracy",
    "score_images",
    "share",
    "subset",
    "two_nearest",
]
