"""One right call of every public function: `CALLS[name]` holds its arguments, which test_bad_input.py spoils in turn.

What a call changes or uses up is made anew each time: `Fresh(make)`. `self` is the object whose method is called.
"""

import io
from pathlib import Path

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from course_utils import (
    denoisers,
    leaderboard,
    metrics,
    pretrained,
    recipes,
    runs,
    samplers,
    schedules,
    sound,
    tensors,
    text,
    toy,
    training,
)
from course_utils.autoencoders import Autoencoder
from course_utils.classifier import Classifier, NoisyClassifier
from course_utils.denoisers.attention import AttentionBlock, SelfAttention
from course_utils.denoisers.dit import AdaLNZero, LastLayer, TokenAttention
from course_utils.denoisers.embeddings import FiLM, NoiseEmbedding
from course_utils.denoisers.swin import WindowAttention
from course_utils.denoisers.unet import ResBlock
from course_utils.reverse_steps import VarianceHead, VariationalJump
from course_utils.samplers import step_selection
from course_utils.variational import posterior_variance

HERE = Path(__file__).resolve().parent


class Fresh:
    """An argument that is made for each call."""

    def __init__(self, make):
        self.make = make


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def of_bytes(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def half(x_t, t, **cond):
    """A denoiser that is wrong and harmless."""
    return x_t / 2


def any_letter(x):
    """A denoiser of three letters that knows nothing."""
    return torch.zeros(*x.shape, 3, device=x.device).log_softmax(-1)


def half_of_it(x):
    return x / 2


def scores(x_t, t):
    """A classifier: of three classes, as points have coordinates."""
    return x_t


def moments(n=6):
    return np.linspace(0.1, 0.4, n)


torch.manual_seed(0)
GENERATOR = Fresh(lambda: torch.Generator().manual_seed(0))
S, C = schedules.linear(10), schedules.FlowMatching()
TWO = schedules.linear(20)
X, EPS, X0 = normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)
IMAGES, OTHER, MORE = normal(2, 1, 8, 8), normal(2, 1, 8, 8, seed=1), normal(2, 1, 8, 8, seed=2)
CLEAN = of_bytes(2, 1, 8, 8) / 127.5 - 1
BYTES, LABELS = of_bytes(6, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
PAIR = torch.tensor([1, 2])
BOTH_SIDES = torch.tensor([1, 10])  # in the interval of the call below, and outside
T = torch.tensor([3, 4])
LOG_SNR = torch.tensor([1.0, -2.0])
GRID = [10, 7, 3, 0]
FLOATS = [1.0, 0.6, 0.2, 0.0]
FEATURES, REFERENCE = normal(12, 3), normal(16, 3, seed=1)
COSTS = step_selection.cost_matrix(torch.full((10,), 0.1), torch.full((10,), 2.0), S, 3)
ERRORS = torch.linspace(0.1, 0.4, 10, dtype=torch.float64)
MEASURED = step_selection.Measured(ERRORS, ERRORS + 1, ERRORS + 2)
MIXTURE = toy.GaussianMixture(normal(4, 3), 1.0)
IDEAL = toy.IdealDenoiser(normal(4, 3), S, torch.tensor([0, 0, 1, 2]))
CNN = denoisers.PlainCNN(1, width=16, depth=2, num_classes=10).eval()
UNET = denoisers.UNet(1, (16, 16), blocks=1, attention=(1,), num_classes=3, second_time=True).eval()
DAE = denoisers.DAE(1, 8, width=8, bottleneck=4, num_classes=3).eval()
ATTENTION = denoisers.AttentionDenoiser(1, 16, 1, 4, 2, 3).eval()
DIT = denoisers.DiT(1, 8, 1, 2, 4, 3).eval()
SWIN = denoisers.Swin(1, (8, 16), 2, 8, 2, 2, 3).eval()
VECTORS = normal(2, 6, 8)
for network in (CNN, UNET, DAE, ATTENTION):
    nn.init.normal_(network.last.weight, std=0.1)
DENOISER = denoisers.Denoiser(CNN, S).eval()
SMALL = schedules.VPLinear()
LANGUAGE = text.Language(torch.tensor([[0, 1, 2], [2, 1, 0]]), 3)
TOKENS, HIDDEN = LANGUAGE.sentences, torch.tensor([[True, False, True], [False, False, True]])
BLANKS = torch.full((2, 3), 3)
WRITER = text.TokenTransformer(3, 3, 8, 1, 2)
CLIPS = normal(2, 1, 4, 16, 16).clamp(-1, 1)
CLIP_NETWORK = denoisers.ClipDenoiser(1, 8, 1, 2, num_classes=3)
WAVES = sound.notes(PAIR, torch.Generator().manual_seed(0))
MAGNITUDES = sound.magnitudes(WAVES).contiguous()
CLASSIFIER = Classifier(1, (16, 16), 3).eval()
CODER = Autoencoder(1, 2, (8, 8)).eval()
NOISY = NoisyClassifier(1, (8, 8), 3).eval()
MASK = torch.tensor([True, False, True])
HEAD = VarianceHead(1, 8)
JUMP = VariationalJump((3,), width=8)
H = JUMP.look(X0, 5, 2, S).detach()
EMBED = NoiseEmbedding(8, 3, second_time=True)
LEVELS = Fresh(lambda: schedules.LossAwareSampler(10))
LEARNED = schedules.LearnedSchedule(hidden=4)
TWIN = step_selection.ContinuousTwin(S)
MODEL = Fresh(lambda: denoisers.Denoiser(denoisers.PlainCNN(1, 8, 2), S))
RUN = Fresh(lambda: runs.Training(denoisers.Denoiser(denoisers.PlainCNN(1, 8, 2, num_classes=3), S)))
RECIPE = recipes.RECIPES["mnist-smoke"]
RECORDS = [
    training.Record(step, 1.0 / step, 1e-3, 1.0, torch.ones(2), torch.ones(2, dtype=torch.long)) for step in (1, 2, 3)
]
ROW = leaderboard.Row(
    "mnist-unet", "0" * 12, "ddim", "uniform", 10, 10, 100, 0, 2.0, 1.5, 2.5, 0.1, 1.0, "mnist-classifier", 0.1, "cpu",
    "float32",
)  # fmt: skip
DDIM = leaderboard.CONTENDERS[1]
REAL = metrics.Reference(CLASSIFIER, (1, 8, 8), FEATURES, REFERENCE, torch.zeros(16, dtype=torch.long))
PLAN = leaderboard.Plan(DDIM, [10, 5, 0], 2)
MANIFEST = {"mnist-cnn": pretrained.read_manifest()["mnist-cnn"]}
FOLDER = Fresh(lambda: Path(scratch()))
WEIGHTS = Fresh(lambda: {"weight": torch.ones(3, 3), "bias": torch.ones(3)})
LINEAR = Fresh(lambda: nn.Linear(3, 3))


def scratch():
    """A new folder, which the test's own clean-up removes."""
    import tempfile

    return tempfile.mkdtemp(dir=scratch.root)


scratch.root = None


def mosaic():
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 16), np.uint8)).convert("RGB").save(file, "WEBP", lossless=True)
    return file.getvalue()


def checkpoint():
    from course_utils.checkpoints import save_checkpoint

    path = Path(scratch()) / "checkpoint.pt"
    save_checkpoint(path, {"x": torch.ones(2)})
    return path


def saved_run():
    path = Path(scratch()) / "checkpoint.pt"
    RUN.make().save(path)
    return path


OF_TWO = {  # of parameterizations, x_t first; the name of the other
    "x0_from_eps": "eps", "eps_from_x0": "x_0", "x0_from_v": "v", "eps_from_v": "v", "eps_from_u": "u",
    "eps_from_score": "score", "x0_from_u": "u",
    "score_from_eps": "eps", "score_from_x0": "x_0", "x0_from_score": "score",
}  # fmt: skip
SAMPLER_START = {"denoise": half, "x_T": X, "schedule": S, "timesteps": GRID}
SAMPLER = {**SAMPLER_START, "generator": GENERATOR}
SOLVER = {"denoise": half, "x_T": X, "schedule": S, "timesteps": [9, 6, 3, 0]}
TO_JUMP = {"x_t": X, "x0_hat": X0, "t": 5, "s": 2, "schedule": S}
NETWORK = {"x": IMAGES, "log_snr": LOG_SNR, "label": PAIR}


def at_its_times(schedule):
    return {"self": schedule, "t": T if schedule.T else LOG_SNR.sigmoid()}


TABLE = {"network": CNN, "shape": (1, 8, 8)}

CALLS = {
    # --- maths
    "tensors.as_double": {"values": X, "device": "cpu"},
    "tensors.broadcast": {"value": LOG_SNR, "x": X, "name": "value"},
    "schedules.jumps.coeffs_for": {"x": X, "t": T, "schedule": S},
    "schedules.jumps.transition": {"s": 2, "t": T, "schedule": S},
    "schedules.jumps.jump": {"t": T, "s": 2, "schedule": S},
    "schedules.jumps.Jump.advance": {"self": schedules.jumps.jump(T, 2, S), "x": X, "x0": X0},
    "schedules.jumps.coeffs_of": {"t": T, "schedule": S},
    "_contract.times.check_time": {"t": T, "schedule": S, "name": "t", "first": 1},
    "_contract.times.whole_time": {"t": T, "T": 10, "name": "t"},
    "_contract.times.float_time": {"t": LOG_SNR.sigmoid(), "name": "t"},
    "_contract.times.numbers": {"timesteps": GRID},
    "schedules.times.search_log_snr": {"log_snr": LOG_SNR, "T": 10, "schedule": S},
    "schedules.times.bisect_log_snr": {"log_snr": LOG_SNR, "schedule": C},
    "schedules.times.t_at_log_snr": {"log_snr": LOG_SNR, "schedule": S},
    "_contract.times.check_grid": {"timesteps": GRID},
    "_contract.times.Falls.check": None,  # of the grids it marks
    "protocols.answer": {"denoise": half, "x_t": X, "t": 3, "cond": {}, "name": "x_t"},
    "protocols.steps_of": {"schedule": S},
    "tensors.nonzero": {"value": LOG_SNR, "why": "0 divides nothing", "name": "value"},
    "tensors.per_image": {"value": LOG_SNR, "x": X, "dtype": torch.float32},
    "tensors.Table": {"values": LOG_SNR},
    "tensors.Table.on": {"self": tensors.Table(LOG_SNR), "device": torch.device("cpu")},
    "schedules.discrete.DiscreteSchedule": {"alpha_bar": torch.tensor([1.0, 0.5, 0.2])},
    "schedules.discrete.DiscreteSchedule.from_betas": {"betas": torch.tensor([0.1, 0.2, 0.3])},
    "schedules.discrete.linear": {"T": 10, "beta_1": 1e-3, "beta_T": 0.2},
    "schedules.discrete.exponential": {"T": 10, "beta_1": 1e-3, "beta_T": 0.2},
    "schedules.discrete.cosine": {"T": 10, "s": 0.008, "max_beta": 0.9},
    "schedules.discrete.sigmoid": {"T": 10, "start": -3.0, "end": 3.0, "tau": 1.0, "max_beta": 0.9},
    "schedules.discrete.from_alpha_bar_function": {"T": 10, "alpha_bar": lambda u: 1 - 0.9 * u, "max_beta": 0.9},
    "schedules.discrete.rescale_zero_terminal_snr": {"schedule": S},
    "schedules.continuous.VPLinear": {"beta_min": 0.1, "beta_max": 20.0},
    "schedules.continuous.VE": {"sigma_min": 0.01, "sigma_max": 50.0},
    "schedules.continuous.VPCosine": {},
    "schedules.continuous.FlowMatching": {},
    "schedules.continuous.LearnedSchedule": {"gamma_0": -13.3, "gamma_1": 5.0, "hidden": 4, "generator": GENERATOR},
    "schedules.continuous.LearnedSchedule.gamma": {"self": LEARNED, "t": LOG_SNR.sigmoid()},
    "schedules.loss_aware.LossAwareSampler": {"T": 10, "history": 3, "uniform": 0.1},
    "schedules.loss_aware.LossAwareSampler.sample": {"self": LEVELS, "n": 3, "generator": GENERATOR},
    "schedules.loss_aware.LossAwareSampler.update": {"self": LEVELS, "t": T, "losses": LOG_SNR.abs()},
    **{
        f"{type(s).__module__.removeprefix('course_utils.')}.{type(s).__name__}.{method}": at_its_times(s)
        for s in (S, schedules.VPLinear(), schedules.VE(), schedules.VPCosine(), C, LEARNED)
        for method in ("coeffs", "log_snr", "check_t")
        if method in vars(type(s))
    },
    "schedules.continuous.ContinuousSchedule.coeffs": None,  # of the schedules made of it
    "schedules.continuous.ContinuousSchedule.check_t": {"self": C, "t": 0.5},
    "schedules.continuous.ContinuousSchedule.log_snr": {"self": C, "t": 0.5},
    "schedules.continuous.ContinuousSchedule.t_at_log_snr": {"self": C, "log_snr": LOG_SNR},
    "schedules.discrete.DiscreteSchedule.t_at_log_snr": {"self": S, "log_snr": LOG_SNR},
    "forward.noise_like": {"x": X, "generator": GENERATOR},
    "forward.q_step": {"x_prev": X, "t": T, "schedule": S, "eps": EPS},
    "forward.q_sample": {"x_0": X, "t": T, "schedule": S, "eps": EPS},
    "forward.q_chain": {"x_0": X, "schedule": S, "generator": GENERATOR},
    "forward.q_posterior": {"x_t": X, "x_0": X0, "t": T, "schedule": S, "s": 2},
    "forward.posterior": {"x_t": X, "x_0": X0, "step": schedules.jump(5, 2, S)},
    "forward.posterior_coeffs": {"t": T, "s": 2, "schedule": S},
    **{
        f"parameterizations.{name}": {"x_t": X, other: EPS, "t": T, "schedule": S}
        for name, other in OF_TWO.items()
    },
    "parameterizations.v_from_x0_eps": {"x_0": X, "eps": EPS, "t": T, "schedule": S},
    "parameterizations.convert": {"prediction": EPS, "kind": "eps", "to": "v", "x_t": X, "t": T, "schedule": S},
    "toy.GaussianMixture": {"means": normal(4, 3), "covariances": torch.ones(4, 3), "weights": torch.full((4,), 0.25)},
    "toy.Gaussian": {"mean": normal(3), "covariance": torch.eye(3)},
    **{
        f"toy.GaussianMixture.{method}": {"self": MIXTURE, "x_t": X, "t": T, "schedule": S}
        for method in ("log_prob", "responsibilities", "score", "denoise")
    },
    "toy.GaussianMixture.denoiser": {"self": MIXTURE, "schedule": S},
    "toy.GaussianMixture.sample": {"self": MIXTURE, "n": 3, "generator": GENERATOR, "return_parts": False},
    "toy.grid_of_spots": {"side": 3, "std": 0.1},
    "toy.ring_of_spots": {"k": 3, "std": 0.1},
    "toy.IdealDenoiser": {"images": normal(4, 3), "schedule": S, "labels": torch.tensor([0, 1, 1, 2])},
    "toy.IdealDenoiser.__call__": {"self": IDEAL, "x_t": X, "t": T, "label": PAIR},
    "toy.IdealDenoiser.class_posterior": {"self": IDEAL, "x_t": X, "t": T},
    "variational.terms.gaussian_kl": {"mean_q": X, "var_q": 1.0, "mean_p": EPS, "var_p": torch.ones(2, 3)},
    "variational.terms.prior_kl": {"x_0": X, "schedule": S, "t": 10},
    "variational.terms.step_kl": {"x_0": X, "x0_hat": X0, "x_t": EPS, "t": T, "schedule": S},
    "variational.terms.step_weight": {"t": T, "schedule": S},
    "variational.terms.bits_per_dim": {"nats": LOG_SNR, "dims": 3},
    "variational.variances.beta_variance": TO_JUMP,
    "variational.variances.posterior_variance": TO_JUMP,
    "variational.variances.step_variance": {"error": X**2, "t": 5, "s": 2, "schedule": S},
    "variational.variances.optimal_variance": {"errors": {5: 0.1, 3: 0.1}},
    "variational.variances.denoising_errors": {
        "denoise": half, "x_0": X, "schedule": S, "timesteps": GRID, "generator": GENERATOR,
    },
    "variational.terms.decoder_nll": {"x_0": CLEAN, "mean": CLEAN + 0.1, "variance": 0.1},
    "variational.terms.jump_cost": {
        "x_0": X0, "x0_hat": EPS, "x_t": X, "t": T, "s": 2, "schedule": S, "variance": posterior_variance,
    },
    "variational.terms.bound": {
        "denoise": half, "x_0": CLEAN, "schedule": S, "timesteps": GRID, "variance": posterior_variance,
        "generator": GENERATOR,
    },
    # --- samplers
    **{
        f"samplers.grids.{name}_grid": {"schedule": S, "n": 4}
        for name in ("uniform", "linspace", "leading", "quadratic", "log_snr")
    },
    "samplers.grids.karras_grid": {"schedule": S, "n": 4, "rho": 7.0},
    "samplers.walk.ask": {"denoise": half, "x": X, "t": 3, "i": 0, "cond": {}},
    "samplers.walk.Walk": {**SAMPLER_START, "callback": None, "cond": {}},
    "samplers.walk.Walk.ask": None,  # inside a walk; tests/test_samplers.py
    "samplers.walk.require_numbers": {"x0_hat": X, "i": 0, "t": 3},
    "samplers.walk.sampler": {"f": half},
    "samplers.ancestral.sample_ddpm": {**SAMPLER, "variance": posterior_variance},
    "samplers.ddim.sample_ddim": {**SAMPLER, "eta": 0.5},
    **{f"samplers.solvers.sample_{name}": SOLVER for name in ("euler", "heun", "dpmpp_2s", "dpmpp_2m")},
    "samplers.flow_maps.sample_flow_map": SAMPLER,
    "samplers.flow_maps.sample_consistency": SAMPLER,
    "samplers.solvers.sample_unipc": {**SOLVER, "order": 2},
    "guidance.classifier_free": {"denoise": half, "w": 1.5},
    "guidance.away_from": {"denoise": half, "negative": half, "w": 1.5},
    "guidance.away_from_class": {"denoise": half, "unwanted": 1, "w": 1.5},
    "guidance.in_interval": {"guided": half, "denoise": half, "schedule": S, "low": 3.0, "high": 10.0},
    "guidance.classifier_guidance": {"denoise": half, "classify": scores, "schedule": S, "w": 1.5},
    "inpainting.with_known": {"denoise": half, "known": X0[0], "mask": MASK},
    "inpainting.sample_repaint": {
        "denoise": half, "x_T": X, "schedule": S, "timesteps": GRID, "known": X0, "mask": MASK, "rounds": 2,
        "generator": GENERATOR,
    },
    "inpainting.towards": {"denoise": half, "look": half_of_it, "y": X0, "schedule": S, "w": 1.5, "data_std": 0.5},
    "inpainting.image_to_image": {
        "sample": samplers.sample_ddim, "denoise": half, "x_0": X0, "schedule": S, "timesteps": [7, 3, 0],
        "generator": GENERATOR,
    },
    "inpainting.box_mask": {"height": 6, "width": 8, "top": 1, "left": 2, "bottom": 4, "right": 5},
    "inpainting.conditional": {"mixture": MIXTURE, "known": X0[0], "mask": MASK},
    "samplers.wrappers.clip_x0": {"denoise": half, "low": -1.0, "high": 1.0},
    "samplers.wrappers.dynamic_threshold": {"denoise": half, "quantile": 0.9},
    "samplers.step_selection.costs.Measured.variance": {"self": MEASURED, **TO_JUMP},
    "samplers.step_selection.costs.measure": {
        "denoise": half, "x_0": CLEAN, "schedule": S, "timesteps": [1, 5, 10], "variance": "optimal",
        "generator": GENERATOR,
    },
    "samplers.step_selection.costs.cost_matrix": {
        "errors": ERRORS, "decoder": ERRORS + 1, "schedule": S, "dims": 3, "variance": "optimal",
    },
    "samplers.step_selection.paths.path_cost": {"costs": COSTS, "timesteps": GRID},
    "samplers.step_selection.paths.best_paths": {"costs": COSTS, "most": 3},
    "samplers.step_selection.paths.best_path": {"costs": COSTS, "n": 3},
    "samplers.step_selection.paths.greedy_path": {"costs": COSTS, "n": 3},
    "samplers.step_selection.paths.prune": {"timesteps": GRID, "loss": sum, "n": 2},
    "schedules.continuous.ContinuousTwin": {"schedule": S},
    "schedules.continuous.ContinuousTwin.coeffs": {"self": TWIN, "t": LOG_SNR.sigmoid()},
    "samplers.step_selection.times.in_continuous_time": {"denoiser": DENOISER},
    "samplers.step_selection.times.to_logits": {"timesteps": FLOATS},
    "samplers.step_selection.times.to_times": {"logits": LOG_SNR},
    "samplers.step_selection.times.end_point": {
        "denoise": half, "x_T": X, "schedule": TWIN, "times": torch.tensor(FLOATS, dtype=torch.float64), "order": 2,
    },
    "samplers.step_selection.times.mean_squared": {"x": X, "target": EPS},
    "samplers.step_selection.times.learn_times": {
        "denoise": half, "x_T": X, "target": EPS, "schedule": TWIN, "timesteps": FLOATS, "steps": 2, "lr": 0.05,
        "order": 2, "batch_size": 1, "distance": step_selection.mean_squared, "generator": GENERATOR,
    },
    "reverse_steps.bounds.log_interpolated": {"v": X.sigmoid(), "t": 5, "s": 2, "schedule": S},
    "reverse_steps.bounds.error_bound": {"t": T, "schedule": S, "variances": torch.ones(3)},
    "reverse_steps.bounds.variance_bounds": {"t": T, "s": 2, "schedule": S, "variances": torch.ones(3)},
    "reverse_steps.variance_head.VarianceHead": {"channels": 1, "width": 8, "floor": 1e-6},
    "reverse_steps.variance_head.VarianceHead.forward": {
        "self": HEAD, "x_t": IMAGES, "x0_hat": OTHER, "t": T, "schedule": S,
    },
    "reverse_steps.variance_head.learned_variance": {"head": HEAD},
    "reverse_steps.variance_head.relative_step_kl": {"squared": X**2, "relative": X**2 + 1, "gain": 2.0},
    "reverse_steps.variance_head.variance_loss": {
        "head": HEAD, "x_0": MORE, "x_t": IMAGES, "x0_hat": OTHER, "t": T, "s": 2, "schedule": S,
    },
    "reverse_steps.latent.VariationalJump": {"shape": (3,), "latent": 1, "width": 8, "floor": 1e-4, "error": 0.1},
    "reverse_steps.latent.VariationalJump.look": {"self": JUMP, "x0_hat": X0, "t": 5, "s": 2, "schedule": S},
    "reverse_steps.latent.VariationalJump.p_z": {"self": JUMP, "h": H},
    "reverse_steps.latent.VariationalJump.q_z": {"self": JUMP, "h": H, "x_s": EPS, **TO_JUMP},
    "reverse_steps.latent.VariationalJump.p_x": {"self": JUMP, "z": normal(2, 1), "h": H, **TO_JUMP},
    "reverse_steps.latent.VariationalJump.draw": {"self": JUMP, **TO_JUMP, "generator": GENERATOR},
    "reverse_steps.latent.VariationalJump.reconstruct": {
        "self": JUMP, "x_s": EPS, **TO_JUMP, "generator": GENERATOR,
    },
    "reverse_steps.latent.jump_loss": {"jump": JUMP, "x_s": EPS, **TO_JUMP, "generator": GENERATOR},
    "reverse_steps.latent.sample_jumps": {"jump": JUMP, **SAMPLER},
    # --- denoisers
    "denoisers.attention.attend": {"q": normal(2, 5, 4), "k": normal(2, 5, 4, seed=1), "v": normal(2, 5, 4, seed=2)},
    "denoisers.attention.SelfAttention": {"channels": 8, "heads": 4},
    "denoisers.attention.SelfAttention.forward": {"self": SelfAttention(8, 4), "x": normal(2, 8, 3, 3)},
    "denoisers.attention.AttentionBlock": {"width": 8, "heads": 4, "dim": 8},
    "denoisers.attention.AttentionBlock.forward": {
        "self": AttentionBlock(8, 4, 8), "x": normal(2, 8, 3, 3), "vector": normal(2, 8),
    },
    "denoisers.attention.AttentionDenoiser": {
        "channels": 1, "width": 16, "blocks": 1, "heads": 4, "patch": 2, "num_classes": 3,
    },
    "denoisers.attention.AttentionDenoiser.forward": {"self": ATTENTION, **NETWORK},
    "denoisers.cnn.PlainCNN": {"channels": 1, "width": 8, "depth": 3, "time": True, "num_classes": 3},
    "denoisers.cnn.PlainCNN.forward": {"self": CNN, **NETWORK},
    "denoisers.dae.DAE": {
        "channels": 1, "size": 8, "width": 8, "bottleneck": 4, "skips": False, "conditioned": True, "num_classes": 3,
    },
    "denoisers.dae.DAE.forward": {"self": DAE, **NETWORK},
    "denoisers.dit.patchify": {"x": IMAGES, "patch": 4},
    "denoisers.dit.unpatchify": {"tokens": VECTORS, "patch": 2, "height": 4, "width": 6},
    "denoisers.dit.TokenAttention": {"width": 8, "heads": 2, "qk_norm": True},
    "denoisers.dit.TokenAttention.forward": {"self": TokenAttention(8, 2), "h": VECTORS},
    "denoisers.dit.modulate": {"h": VECTORS, "shift": VECTORS, "scale": VECTORS},
    "denoisers.dit.AdaLNZero": {"width": 8, "dim": 8, "mixer": LINEAR, "expand": 2},
    "denoisers.dit.AdaLNZero.forward": {"self": AdaLNZero(8, 8, nn.Identity()), "h": VECTORS, "vector": normal(2, 8)},
    "denoisers.dit.LastLayer": {"width": 8, "dim": 8, "values": 4},
    "denoisers.dit.LastLayer.forward": {"self": LastLayer(8, 8, 4), "h": VECTORS, "vector": normal(2, 8)},
    "denoisers.dit.DiT": {
        "channels": 1, "width": 8, "blocks": 1, "heads": 2, "patch": 4, "num_classes": 3, "qk_norm": True,
    },
    "denoisers.dit.DiT.forward": {"self": DIT, **NETWORK},
    "denoisers.swin.window_partition": {"h": normal(2, 4, 6, 3), "window": 2},
    "denoisers.swin.window_reverse": {"windows": normal(2, 6, 4, 3), "window": 2, "rows": 4, "columns": 6},
    "denoisers.swin.shift_mask": {"rows": 4, "columns": 6, "window": 2, "shift": 1, "device": "cpu"},
    "denoisers.swin.relative_index": {"window": 2, "largest": 3, "device": "cpu"},
    "denoisers.swin.fitted": {"window": 4, "side": 8, "shifted": True},
    "denoisers.swin.WindowAttention": {"width": 8, "heads": 2, "window": 4, "shifted": True, "qk_norm": True},
    "denoisers.swin.WindowAttention.forward": {"self": WindowAttention(8, 2, 2, True), "h": normal(2, 4, 6, 8)},
    "denoisers.swin.merge": {"h": normal(2, 4, 6, 3)},
    "denoisers.swin.split": {"h": normal(2, 2, 3, 12)},
    "denoisers.swin.Swin": {
        "channels": 1, "widths": (8, 16), "blocks": 2, "head": 8, "window": 2, "patch": 2, "num_classes": 3,
        "qk_norm": True,
    },
    "denoisers.swin.Swin.forward": {"self": SWIN, **NETWORK},
    "denoisers.embeddings.sinusoidal_embedding": {"position": LOG_SNR, "dim": 8, "longest": 1e4},
    "denoisers.embeddings.sinusoidal_2d": {"height": 3, "width": 4, "dim": 8, "device": "cpu"},
    "denoisers.embeddings.NoiseEmbedding": {"dim": 8, "num_classes": 3, "second_time": True},
    "denoisers.embeddings.NoiseEmbedding.forward": {
        "self": EMBED, "log_snr": LOG_SNR, "label": PAIR, "log_snr_r": LOG_SNR + 1,
    },
    "denoisers.embeddings.FiLM": {"dim": 8, "channels": 4},
    "denoisers.embeddings.FiLM.forward": {"self": FiLM(8, 4), "h": normal(2, 4, 3, 3), "vector": normal(2, 8)},
    "denoisers.layers.zeroed": {"layer": LINEAR},
    "denoisers.layers.pad_to_multiple": {"x": normal(2, 1, 7, 7), "multiple": 4},
    "denoisers.costs.count_flops": TABLE,
    "denoisers.costs.activation_bytes": TABLE,
    "denoisers.costs.receptive_field": TABLE,
    "denoisers.costs.images_per_second": {**TABLE, "batch": 2, "repeats": 1},
    "denoisers.costs.describe": {**TABLE, "batch": 0},
    "denoisers.costs.compare": {"networks": {"cnn": CNN}, "shape": (1, 8, 8), "batch": 0},
    "denoisers.unet.group_norm": {"channels": 16},
    "denoisers.unet.ResBlock": {"channels_in": 8, "channels_out": 8, "dim": 8, "dropout": 0.1, "attends": False},
    "denoisers.unet.ResBlock.forward": {"self": ResBlock(8, 8, 8), "x": normal(2, 8, 3, 3), "vector": normal(2, 8)},
    "denoisers.unet.UNet": {
        "channels": 1, "widths": (8, 8), "blocks": 1, "attention": (1,), "num_classes": 3, "stem": 2, "dropout": 0.1,
        "second_time": True,
    },
    "denoisers.unet.UNet.forward": {"self": UNET, **NETWORK, "log_snr_r": LOG_SNR + 1},
    "denoisers.denoiser.Denoiser": {
        "network": CNN, "schedule": S, "predict": "v", "data_mean": 0.1, "data_std": 0.5,
    },
    "denoisers.denoiser.Denoiser.scales": {"self": DENOISER, "x_t": IMAGES, "t": T},
    "denoisers.denoiser.Denoiser.forward": {"self": DENOISER, "x_t": IMAGES, "t": T, "label": PAIR},
    "denoisers.denoiser.Denoiser.target": {"self": DENOISER, "x_0": IMAGES, "eps": OTHER, "t": T},
    # --- training
    "losses.pseudo_huber": {"found": X, "wanted": EPS, "c": 0.1},
    "losses.energy_distance": {"a": normal(4, 3), "b": normal(4, 3, seed=1)},
    "losses.loss_weight": {"t": T, "schedule": S, "weighting": "v", "data_std": 0.5, "gamma": 5.0},
    "losses.denoising_loss": {
        "denoise": half, "x_0": X, "t": T, "schedule": S, "eps": EPS, "weighting": "v", "data_std": 0.5, "gamma": 5.0,
    },
    **{
        f"adversarial.losses.{one}_loss": {"of_real": normal(4), "of_fake": normal(4, seed=1), "game": "minimax"}
        for one in ("critic", "generator")
    },
    "adversarial.networks.PointGenerator": {"d": 2, "latent": 3, "width": 4, "depth": 2, "copies": 2},
    "adversarial.networks.PointCritic": {"d": 2, "width": 4, "depth": 2, "copies": 2, "pack": 2},
    "adversarial.networks.PointDenoiser": {"d": 2, "width": 4, "depth": 2, "copies": 2},
    "adversarial.networks.point_rivals": {"d": 2, "latent": 3, "width": 4, "depth": 2, "copies": 2, "pack": 2},
    "adversarial.networks.DigitGenerator": {"latent": 3, "width": 4},
    "adversarial.networks.DigitCritic": {"width": 4, "pack": 2},
    "adversarial.networks.digit_rivals": {"latent": 3, "width": 4, "critic_width": 4, "pack": 2},
    "adversarial.networks.packed": {"x": IMAGES, "pack": 2},
    **dict.fromkeys(  # tests/test_adversarial.py
        (
            "adversarial.losses.gradient_penalty",
            *(f"adversarial.networks.Point{one}.forward" for one in ("Generator", "Critic", "Denoiser")),
            *(f"adversarial.networks.{one}.forward" for one in ("DigitGenerator", "DigitCritic", "Rivals")),
            "adversarial.networks.Rivals",
            *(f"tasks.adversarial.Adversarial.{method}" for method in ("__call__", "measure")),
            *(f"leaderboard.duel_points.{one}" for one in ("Flops", "batches_of", "spend", "samples_of", "run_points")),
            *(f"leaderboard.duel_digits.{one}" for one in ("run_digits", "duel", "draw", "seconds_alone")),
            *(f"leaderboard.duel_{one}.load" for one in ("points", "digits")),
        )
    ),
    "runs.EMA": {"model": MODEL, "decay": 0.9},
    "runs.EMA.update": {"self": Fresh(lambda: runs.EMA(nn.Linear(3, 3))), "model": LINEAR, "step": 1},
    "runs.EMA.copy_to": {"self": Fresh(lambda: runs.EMA(nn.Linear(3, 3))), "model": LINEAR},
    "training.learning_rate": {"step": 3, "steps": 10, "peak": 1e-3, "warmup": 2},
    "muon.orthogonalised": {"matrices": normal(2, 3, 4), "steps": 2},
    **dict.fromkeys(("muon.Muon", "muon.Muon.step", "muon.hidden_matrices")),  # tests/test_muon.py
    "runs.Training": {
        "model": MODEL, "lr": 1e-3, "weight_decay": 0.1, "ema": 0.9, "optimizer": "muon", "seed": 1, "device": "cpu",
        "precision": torch.float32,
    },
    "runs.Training.state": {"self": RUN},
    "runs.Training.save": {"self": RUN, "path": Fresh(lambda: Path(scratch()) / "checkpoint.pt")},
    "runs.Training.resume": {"self": RUN, "path": Fresh(saved_run)},
    "runs.Training.forget_step": {"self": RUN},
    "runs.Training.averaged": {"self": RUN, "decay": 0.999},
    "training.train": {
        "run": RUN, "images": BYTES, "labels": LABELS, "steps": 2, "batch_size": 2, "weighting": "v", "times": "cosine",
        "warmup": 1, "clip": 1.0, "label_drop": 0.1, "flip": True,
        "checkpoint": Fresh(lambda: Path(scratch()) / "checkpoint.pt"), "every": 1,
    },
    **dict.fromkeys(  # tests/test_tasks.py
        f"tasks.{one}.{method}"
        for one in ("classification.Classification", "classification.NoisyClassification", "denoising.Denoising")
        for method in ("__call__", "measure")
    ),
    **dict.fromkeys(  # tests/test_polishing.py, test_distillation.py
        f"tasks.{one}"
        for one in (
            *("adversarial.played", "polishing.Polishing.__call__", "polishing.Polishing.measure"),
            "distillation.Jumping.jump",
        )
    ),
    **dict.fromkeys(  # tests/test_distillation.py
        f"tasks.distillation.{one}.__call__" for one in ("Consistency", "MeanFlow", "Reflow", "Jumping")
    ),
    **dict.fromkeys(  # tests/test_cascades.py, tests/test_autoencoders.py
        f"tasks.{one}"
        for one in (
            *("coding.CodeDenoising.through", "coding.Reconstruction.__call__", "coding.Reconstruction.finish"),
            *("coding.Reconstruction.measure", "denoising.Denoising.shown", "denoising.Denoising.through"),
            *("denoising.named", "upscaling.Upscaling.shown", "upscaling.Upscaling.through"),
        )
    ),
    "recipes.parts.small_images": None,
    "cascades.downsample": {"x": IMAGES, "k": 4},
    "cascades.enlarge": {"x": IMAGES, "k": 2},
    "cascades.given_small": {"denoise": half, "small": IMAGES, "r": 3, "schedule": S, "generator": GENERATOR},
    "cascades.sample_cascade": {
        "base": half, "denoise": half, "x_T": IMAGES, "schedule": S, "timesteps": GRID, "k": 2, "r": 3,
        "by": samplers.sample_ddim, "generator": GENERATOR,
    },
    "autoencoders.Autoencoder": {"channels": 1, "latent": 2, "widths": (8, 8)},
    "autoencoders.Autoencoder.code_shape": {"self": CODER, "x": IMAGES},
    "autoencoders.Autoencoder.posterior": {"self": CODER, "x": IMAGES.float()},
    "autoencoders.Autoencoder.forward": {"self": CODER, "x": IMAGES.float(), "eps": torch.zeros(2, 2, 2, 2)},
    "autoencoders.Autoencoder.encode": {"self": CODER, "x": IMAGES.float(), "generator": GENERATOR},
    "autoencoders.Autoencoder.decode": {"self": CODER, "z": torch.zeros(2, 2, 2, 2)},
    "autoencoders.standardise": {"autoencoder": CODER, "images": BYTES, "batch_size": 4},
    "autoencoders.rate_and_distortion": {"autoencoder": CODER, "images": BYTES, "generator": GENERATOR},
    "autoencoders.gaussian_rate": {"variances": LOG_SNR.abs(), "level": 0.1},
    "autoencoders.sample_codes": {
        "decode": half_of_it, "shape": (2, 2, 2), "denoise": half, "x_T": IMAGES, "schedule": S, "timesteps": GRID,
        "by": samplers.sample_ddim, "generator": GENERATOR,
    },
    "samplers.walk.draws": {"sampler": samplers.sample_ddim},
    "paths.draw_paths": {
        "denoise": half, "schedule": S, "n": 3, "shape": (3,), "timesteps": GRID, "labels": LABELS, "guidance": 1.5,
        "sampler": samplers.sample_ddim, "seed": 0, "device": "cpu", "precision": torch.float32,
    },
    "tasks.task.known_classes": {"model": CNN},
    "tasks.denoising.draw_log_snr": {"n": 3, "generator": GENERATOR, "times": "lognormal"},
    "tasks.denoising.draw_t": {"schedule": S, "n": 3, "generator": GENERATOR, "times": "cosine"},
    "classifier.Classifier": {"channels": 1, "widths": (8, 8), "num_classes": 3, "stem": 2},
    "classifier.Classifier.features": {"self": CLASSIFIER, "x": IMAGES},
    "classifier.Classifier.forward": {"self": CLASSIFIER, "x": IMAGES},
    "classifier.NoisyClassifier": {"channels": 1, "widths": (8, 8), "num_classes": 3, "stem": 2},
    "classifier.NoisyClassifier.forward": {"self": NOISY, "x_t": IMAGES, "log_snr": LOG_SNR},
    "classifier.NoisyClassifier.at_times_of": {"self": NOISY, "schedule": S},
    "classifier.look_at": {"classifier": CLASSIFIER, "images": BYTES, "batch_size": 4},
    "runtime.moved": {"x": IMAGES, "device": torch.device("cpu")},
    "data.batching.as_batch": {"x": BYTES, "device": torch.device("cpu"), "dtype": torch.float32},
    "data.batching.as_labels": {"label": LABELS, "device": torch.device("cpu")},
    "data.pixels.shifted": {"x": IMAGES, "by": torch.tensor([[1, 0], [-1, 2]])},
    # --- text, sound, film
    "text.kernel.sequence_log_prob": {"log_probs": normal(2, 3, 3), "x_0": TOKENS},
    "text.kernel.hidden_at_random": {"x_0": TOKENS, "keep": torch.tensor([0.2, 0.7]), "generator": GENERATOR},
    "text.kernel.of_hidden": {"predict": any_letter, "x_0": TOKENS, "hidden": HIDDEN, "mask": 3},
    "text.kernel.at_a_time": {
        "predict": any_letter, "x_0": TOKENS, "alpha": lambda t: 1 - t, "t": torch.tensor([0.2, 0.7]), "mask": 3,
        "generator": GENERATOR,
    },
    "text.kernel.hidden_counts": {"n": 4, "length": 3, "generator": GENERATOR},
    "text.kernel.by_counts": {"predict": any_letter, "x_0": TOKENS, "mask": 3, "generator": GENERATOR},
    "text.kernel.exact_bound": {"predict": any_letter, "x_0": TOKENS, "mask": 3, "kept": [0.0, 0.4, 1.0]},
    "text.language.Language": {"sentences": TOKENS, "vocabulary": 3, "weights": torch.tensor([0.4, 0.6])},
    "text.language.Language.log_prob": {"self": LANGUAGE, "x": TOKENS},
    "text.language.Language.predict": {"self": LANGUAGE, "x_t": BLANKS},
    "text.language.reverse_kernel": {
        "predict": any_letter, "states": LANGUAGE.states, "mask": 3, "a_t": 0.2, "a_s": 0.7,
    },
    "text.language.law_of": {"language": LANGUAGE, "kept": [0.0, 0.4, 1.0], "predict": any_letter},
    "text.unmasking.draw_tokens": {"log_probs": normal(2, 3, 3), "generator": GENERATOR},
    "text.unmasking.sample_ancestral": {
        "predict": any_letter, "x_T": BLANKS, "mask": 3, "steps": 2, "generator": GENERATOR,
    },
    "text.unmasking.sample_chosen": {
        "predict": any_letter, "x_T": BLANKS, "mask": 3, "steps": 2, "by": "sure", "generator": GENERATOR,
    },
    "text.unmasking.sample_left_to_right": {
        "predict": any_letter, "n": 2, "length": 3, "mask": 3, "generator": GENERATOR,
    },
    "text.network.TokenTransformer": {
        "vocabulary": 3, "length": 3, "width": 8, "blocks": 1, "heads": 2, "causal": True, "reach": 1,
    },
    "text.network.TokenTransformer.forward": {"self": WRITER, "x": TOKENS},
    "text.sums.Alphabet.encode": {"self": text.DIGITS, "text": "12+ 7= 19"},
    "text.sums.Alphabet.decode": {"self": text.DIGITS, "x": TOKENS},
    "text.sums.all_sums": {},
    "text.sums.shuffled_sums": {"seed": 0},
    "text.sums.are_true": {"x": text.all_sums()[:3]},
    "text.sums.blanked": {"sums": text.all_sums()[:3], "generator": GENERATOR},
    "text.sums.fill_blanks": {
        "predict": lambda x: torch.zeros(*x.shape, 13, device=x.device), "sums": text.all_sums()[:3], "steps": 2,
        "generator": GENERATOR,
    },
    "data.texts.load_text": {"name": "paradise_lost", "split": "test"},
    "data.texts.folded": {"text": "Of Man"},
    "data.texts.numbers_of": {"text": "of man"},
    "data.texts.random_rows": {"length": 5, "name": "paradise_lost"},
    "data.texts.held_out_rows": {"length": 5, "n": 3, "name": "paradise_lost"},
    "sound.frequency_of": {"label": PAIR},
    "sound.notes": {"label": PAIR, "generator": GENERATOR},
    "sound.magnitudes": {"wave": WAVES},
    "sound.to_picture": {"magnitude": MAGNITUDES},
    "sound.from_picture": {"x": normal(2, 1, 128, 16)},
    "sound.griffin_lim": {"magnitude": MAGNITUDES, "iterations": 2, "generator": GENERATOR},
    "sound.pitch_of": {"wave": WAVES},
    "sound.cents": {"frequency": LOG_SNR.exp(), "wanted": LOG_SNR.exp()},
    "sound.random_notes": {"n": 2, "generator": GENERATOR},
    "film.standardised": {"clips": CLIPS},
    "film.pixels": {"x": CLIPS},
    "film.shifted_frames": {"bright": IMAGES, "by": X[:, :2], "side": 16},
    "film.moving_digits": {"images": of_bytes(2, 1, 28, 28), "generator": GENERATOR, "frames": 3},
    "film.clips_of": {"images": of_bytes(2, 1, 28, 28), "labels": PAIR, "alone": 0.2},
    "film.centres": {"clips": CLIPS},
    "film.unsteadiness": {"clips": CLIPS},
    "film.centred": {"clips": CLIPS},
    "film.flicker": {"clips": CLIPS},
    "film.as_digits": {"clips": CLIPS},
    "denoisers.clips.ClipDenoiser": {
        "channels": 1, "width": 8, "blocks": 1, "heads": 2, "stem": 2, "num_classes": 3,
    },
    "denoisers.clips.ClipDenoiser.forward": {"self": CLIP_NETWORK, "x": CLIPS, "log_snr": LOG_SNR, "label": PAIR},
    **dict.fromkeys(  # tests/test_text.py; their measurements by `course evaluate`
        f"tasks.{one}.{method}"
        for one, methods in {
            "tokens.Unmasking": ("__call__", "measure"), "tokens.NextToken": ("__call__", "measure"),
            "clips.Notes": ("measure",), "clips.Film": ("measure",),
        }.items()
        for method in methods
    ),
    "tasks.tokens.in_words": {"values": LOG_SNR, "digits": ".2f"},
    "tasks.clips.draw_labelled": None,
    # --- files
    "checkpoints.save_checkpoint": {
        "path": Fresh(lambda: Path(scratch()) / "checkpoint.pt"), "content": {"x": torch.ones(2)},
    },
    "checkpoints.load_checkpoint": {"path": Fresh(checkpoint), "device": "cpu"},
    "checkpoints.load_weights": {"module": LINEAR, "weights": WEIGHTS, "name": "the checkpoint"},
    "checkpoints.require_fit": {"module": LINEAR, "weights": WEIGHTS, "name": "the checkpoint"},
    "data.images.load_images": {
        "name": "cifar10", "split": "test", "n": 3, "full": False, "root": None, "download": False,
    },
    "data.cifar10.full_cifar10": None,  # tests/test_data.py spoils its files
    "data.embedded.embedded": None,
    "files.read": None,
    "files.disk_is_full": {"error": OSError(28, "no space")},
    "files.data_dir": {},
    "files.read_manifest": {},
    "data.embedded.pixels_sha256": {"images": BYTES.numpy()},
    "data.embedded.decode_mosaic": {"content": mosaic(), "count": 2, "channels": 1, "height": 8, "width": 8},
    "data.embedded.decode_labels": {"content": b"0123\n456"},
    "files.parse_json": {"path": Path("manifest.json"), "content": b"{}", "way_out": "go away"},
    "data.cifar10.read_cifar10": None,  # tests/test_data.py spoils its files
    "files.write_atomically": {"path": Fresh(lambda: Path(scratch()) / "file"), "content": b"bytes"},
    "files.read_verified": None,  # the same
    "data.pixels.normalize": {"images": BYTES, "dtype": torch.float32},
    "data.pixels.denormalize": {"x": IMAGES},
    "data.pixels.random_flip": {"x": IMAGES, "generator": GENERATOR},
    "data.batching.batches": {
        "images": BYTES, "labels": LABELS, "batch_size": 2, "generator": GENERATOR, "device": "cpu",
        "dtype": torch.float32, "drop_last": True, "epochs": 1, "skip": 0,
    },
    "pretrained.load_denoiser": {"name": "mnist-cnn", "device": "cpu"},
    "pretrained.load_samples": {"name": "mnist-unet"},
    "pretrained.load_moments": {"dataset": "mnist"},
    "pretrained.load_network": {"name": "mnist-cnn", "device": "cpu"},
    "pretrained.load_classifier": {"dataset": "mnist", "device": "cpu"},
    "pretrained.read_manifest": {"folder": None},
    "pretrained.recipe_of": {"name": "mnist-cnn"},
    "pretrained.ship": None,  # authors'; tests/test_pretrained.py
    "pretrained.write_manifest": None,
    "pretrained.with_table": None,
    "recipes.recipe.settings_of": {"recipe": RECIPE},
    "run_folder.starting_model": {"recipe": RECIPE},
    "run_folder.log_row": {"record": RECORDS[0], "parts": ()},
    "run_folder.log_columns": {"parts": ()},
    "recipes.parts.pixel_moments": {"dataset": "mnist"},
    "recipes.recipe.recipe_from": {"settings": recipes.settings_of(RECIPE)},
    "recipes.parts.make_task": {"recipe": RECIPE},
    "recipes.parts.make_model": {"recipe": RECIPE, "moments": (0.0, 1.0)},
    "recipes.parts.one_of_each": {"labels": LABELS, "classes": LABELS, "seed": 0},
    "recipes.parts.load_data": {"recipe": RECIPE},
    "run_folder.begin": None,  # the command line's; tests/test_training.py and test_cli.py
    "run_folder.train_recipe": None,
    # --- figures of quality
    "metrics.estimates.subset": {"features": FEATURES, "n": 3, "generator": GENERATOR},
    "metrics.estimates.over_seeds": {"values": [1.0, 2.0, 4.0], "level": 0.95},
    "metrics.estimates.mean_difference": {"values": LOG_SNR, "others": LOG_SNR.abs()},
    "metrics.modes.reverse_kl": {"counts": torch.tensor([1, 0, 4]), "shares": torch.tensor([0.2, 0.3, 0.5])},
    "metrics.modes.mode_coverage": {"x": normal(4, 2), "mixture": toy.grid_of_spots(), "within": 3.0},
    **dict.fromkeys(  # tests/test_adversarial.py
        f"metrics.modes.{one}" for one in ("score_images", "draw_generated", "train_features")
    ),
    "metrics.estimates.share": {"hits": 3, "n": 10, "level": 0.95},
    "metrics.distances.fid": {"features": FEATURES, "reference": REFERENCE},
    "metrics.distances.gaussian_chance_fid": {"variances": LOG_SNR.abs(), "n": 10, "m": 20},
    "metrics.distances.chance_fid": {"features": FEATURES, "n": 10, "m": 20},
    "metrics.distances.fid_interval": {
        "features": FEATURES, "reference": REFERENCE, "resamples": 3, "level": 0.95, "generator": GENERATOR,
    },
    "metrics.distances.kid": {
        "features": FEATURES, "reference": REFERENCE, "subsets": 2, "subset_size": 5, "generator": GENERATOR,
    },
    "metrics.neighbours.nearest": {"images": FEATURES, "among": REFERENCE, "k": 2, "batch_size": 5},
    "metrics.neighbours.precision_recall": {"features": FEATURES, "reference": REFERENCE, "k": 2, "batch_size": 5},
    "metrics.neighbours.two_nearest": {
        "images": IMAGES, "train": MORE, "moves": torch.tensor([[0, 0], [1, 0]]), "batch_size": 1,
    },
    "metrics.neighbours.ratio_test": {"images": IMAGES, "train": MORE, "ratio": 0.5},
    "metrics.neighbours.copied": {
        "images": FEATURES, "train": REFERENCE, "unseen": normal(8, 3, seed=5), "quantile": 0.1,
    },
    "metrics.samples_only.samples_only_accuracy": {
        "images": BYTES, "labels": LABELS, "test_images": BYTES, "test_labels": LABELS, "steps": 1, "batch_size": 2,
        "lr": 1e-3, "shift": 1, "widths": (8, 8), "seed": 0, "device": "cpu", "precision": torch.float32,
    },
    "metrics.drawing.draw_images": {
        "denoise": half, "schedule": S, "shape": (1, 8, 8), "n": 3, "timesteps": GRID, "num_classes": 3,
        "sampler": samplers.sample_ddim, "generator": GENERATOR, "device": "cpu", "precision": torch.float32,
        "batch_size": 2,
    },
    "metrics.evaluation.evaluate": {
        "denoiser": DENOISER, "dataset": "mnist", "n": 2, "timesteps": GRID, "sampler": samplers.sample_ddim,
        "guidance": 1.0, "num_classes": 10, "full": False, "seed": 0, "precision": torch.float32,
    },
    "metrics.evaluation.accuracy": {"classifier": CLASSIFIER, "dataset": "mnist", "full": False},
    "metrics.evaluation.noisy_accuracy": {"classifier": NOISY, "dataset": "mnist", "log_snr": 1.0, "full": False},
    "leaderboard.guided.guided_path": {"name": "mnist-unet", "folder": FOLDER},
    "leaderboard.guided.load_guided": {"name": "mnist-unet", "folder": FOLDER},
    "leaderboard.guided.missing_guided": {"name": "mnist-unet", "seed": 0, "folder": FOLDER},
    **dict.fromkeys(  # tests/test_leaderboard.py
        f"leaderboard.{one}"
        for one in ("guided.guided_denoiser", "guided.measure_guided", "guided.run_guided", "rows.read", "rows.write")
    ),
    **dict.fromkeys(  # tests/test_architectures.py
        f"leaderboard.architectures.{one}"
        for one in (
            "plans", "recipe_for", "shape_of", "step_flops", "held_out_loss", "seconds_a_step", "chosen_rate",
            "measure_architecture", "load_architectures", "run_architectures", "held_out_losses",
        )
    ),
    **dict.fromkeys(  # tests/test_photographs.py
        f"leaderboard.photographs.{one}"
        for one in (
            "trainings", "training_flops", "trained", "measure_photographs", "load_photographs",
            "run_photographs",
        )
    ),
    "leaderboard.show.table_of_photographs": None,  # tests/test_photographs.py
    "leaderboard.memory.small_digits": {"n": 3, "seed": 0},
    "leaderboard.memory.unseen_digits": {"n": 3},
    **dict.fromkeys(  # tests/test_sweeps.py
        f"leaderboard.{one}"
        for one in (
            *("memory.load_memory", "memory.losses_at", "memory.measure_memory"),
            *("memory.missing_memory", "memory.run_memory", "memory.small_denoiser", "memory.train_on"),
            *("scale.forward_flops", "scale.load_scale", "scale.measure_scale", "scale.run_scale"),
            "scale.training_flops",
            *("distillations.taught", "distillations.measure_distillations", "distillations.chosen_rate"),
            *("distillations.load_distillations", "distillations.run_distillations"),
        )
    ),
    "leaderboard.plans.Counted": {"denoise": half},
    "leaderboard.plans.Counted.__call__": {"self": Fresh(lambda: leaderboard.Counted(half)), "x_t": X, "t": 3},
    "leaderboard.plans.network_calls": {"sample": samplers.sample_ddim, "schedule": S, "timesteps": GRID},
    "leaderboard.plans.plan_within": {"contender": DDIM, "schedule": S, "budget": 5},
    "leaderboard.plans.planned": {"schedule": S, "budgets": (5,)},
    "metrics.real_images.Reference.draws": {"self": REAL, "n": 3},
    "metrics.real_images.reference": {"dataset": "mnist", "device": "cpu", "full": False},
    "metrics.real_images.floor_of": {"dataset": "mnist", "n": 20, "device": "cpu", "full": False},
    "leaderboard.measuring.measure": {
        "name": "mnist-cnn", "denoiser": DENOISER, "plan": PLAN, "n": 2, "seed": 0, "precision": torch.float32,
    },
    **{
        f"leaderboard.measuring.{what}": {
            "name": "mnist-cnn", "n": 10, "seed": 0, "budgets": (5,), "samplers": ("ddim",), "folder": FOLDER,
        }
        for what in ("missing", "run")
    },
    "leaderboard.measuring.add": {
        "label": "mine", "sample": samplers.sample_ddim, "grid": "uniform", "budget": 2, "n": 2, "seed": 0,
        "name": "mnist-cnn",
    },
    "leaderboard.measuring.affordable": {"sizes": (10, 20), "calls": 2, "seconds": 1.0, "name": "mnist-cnn"},
    "leaderboard.rows.path_of": {"name": "mnist-unet", "folder": FOLDER},
    "leaderboard.rows.weights": {"name": "mnist-unet"},
    "leaderboard.rows.load": {"name": "mnist-unet", "folder": FOLDER},
    "leaderboard.rows.stored": {"name": "mnist-unet", "n": 1000, "seed": 0, "folder": FOLDER},
    "leaderboard.rows.save": {"rows": [ROW], "name": "mnist-unet", "folder": FOLDER},
    "leaderboard.show.table": {"rows": [ROW]},
    "leaderboard.show.figure": {"rows": [ROW], "own": [ROW]},
    "leaderboard.show.at": {"rows": [ROW], "budget": 10},
    # --- what is shown
    "plotting.use_style": {},
    "plotting.to_png": {"figure": Fresh(Figure)},
    "plotting.show": {"figure": Fresh(Figure), "alt": "nothing"},
    "plotting.show_film": {"clips": CLIPS, "alt": "nothing", "scale": 1, "seconds": 0.1},
    "plotting.to_pixels": {"images": IMAGES},
    "plotting.image_grid": {
        "images": IMAGES, "columns": 2, "titles": ["a", "b"], "row_labels": ["c"], "size": 0.5, "title": "both",
    },
    "widgets.explore": {"draw": lambda n: Figure(), "alt": "nothing", "n": Fresh(lambda: ipywidgets.IntSlider(3))},
    "widgets.slider": {"label": "t", "low": 0, "high": 10, "value": 5, "step": 1},
    "widgets.span": {"label": "rows", "low": 0, "high": 28, "value": (2, 18), "step": 1},
    "widgets.choice": {"label": "kind", "options": ["a", "b"], "value": "a"},
    "widgets.watch": {
        "records": RECORDS, "steps": 3, "label": "training", "sample": lambda: IMAGES, "every": 2,
    },
    "runtime.setup": {"lesson": "01", "seed": 0},
    "runtime.pick_device": {},
    "runtime.pick_precision": {"device": torch.device("cpu")},
    "runtime.device_name": {"device": torch.device("cpu")},
    "runtime.data_source": {},
    "runtime.keep_freed_memory": {},
    "runtime.fit_threads": {"root": FOLDER},
    "runtime.printable": {"text": "✔ 1 ms"},
    "runtime.usable_cpus": {"root": FOLDER},
    "runtime.version": {"distribution": "torch"},
    "runtime.varies": {},
}  # fmt: skip

# What a learner meets only through what is around it, which has looked at the arguments; and what authors use.
INSIDE = {
    *(f"tensors.{one}" for one in ("as_double", "broadcast", "nonzero", "per_image", "Table", "Table.on")),
    *("variational.variances.beta_variance", "variational.variances.posterior_variance", "forward.posterior"),
    *(f"schedules.times.{one}_log_snr" for one in ("search", "bisect")),
    *(
        "protocols.steps_of",
        "protocols.answer",
        "_contract.times.numbers",
        "_contract.times.whole_time",
        "_contract.times.float_time",
    ),
    *("schedules.jumps.coeffs_of", "schedules.jumps.Jump.advance", "_contract.times.check_time"),
    *("forward.posterior_coeffs", "reverse_steps.variance_head.relative_step_kl", "samplers.walk.ask"),
    *(f"reverse_steps.latent.VariationalJump.{method}" for method in ("look", "p_z", "q_z", "p_x")),
    *(
        "samplers.walk.Walk",
        "samplers.walk.Walk.ask",
        "samplers.walk.require_numbers",
        "samplers.walk.sampler",
        "samplers.step_selection.costs.Measured.variance",
        "data.pixels.shifted",
    ),
    *("samplers.walk.draws", "autoencoders.Autoencoder.decode", "autoencoders.Autoencoder.forward"),
    *("autoencoders.Autoencoder.code_shape", "autoencoders.standardise"),
    *("samplers.step_selection.times.mean_squared", "denoisers.denoiser.Denoiser.scales"),
    *("runtime.moved", "data.batching.as_batch", "data.batching.as_labels"),
    *("denoisers.attention.attend", "denoisers.attention.SelfAttention.forward", "denoisers.attention.AttentionBlock"),
    *("denoisers.attention.AttentionBlock.forward", "denoisers.embeddings.FiLM", "denoisers.embeddings.FiLM.forward"),
    *("denoisers.layers.zeroed", "denoisers.layers.pad_to_multiple"),
    *(f"denoisers.dit.{one}.forward" for one in ("TokenAttention", "AdaLNZero", "LastLayer")),
    *("denoisers.dit.modulate", "denoisers.swin.WindowAttention.forward"),
    *(f"denoisers.swin.{one}" for one in ("fitted", "merge", "split")),
    "denoisers.unet.group_norm",
    *("denoisers.unet.ResBlock", "denoisers.unet.ResBlock.forward", "denoisers.embeddings.NoiseEmbedding.forward"),
    *(f"denoisers.costs.{one}" for one in ("count_flops", "activation_bytes", "receptive_field", "images_per_second")),
    *("runs.EMA.update", "runs.EMA.copy_to", "training.learning_rate"),
    *("runtime.fit_threads", "runtime.usable_cpus"),
    *("files.parse_json", "files.write_atomically", "files.disk_is_full", "runtime.printable"),
    *(f"data.embedded.{one}" for one in ("pixels_sha256", "decode_mosaic", "decode_labels")),
    *(
        "recipes.recipe.settings_of",
        "run_folder.log_row",
        "run_folder.log_columns",
        "recipes.parts.pixel_moments",
        "recipes.parts.make_model",
        "recipes.parts.load_data",
    ),
    *("leaderboard.plans.Counted", "leaderboard.plans.Counted.__call__", "metrics.real_images.reference"),
    "metrics.real_images.floor_of",
    "metrics.real_images.Reference.draws",
    *(
        "leaderboard.rows.path_of",
        "leaderboard.rows.weights",
        "leaderboard.plans.planned",
        "leaderboard.measuring.missing",
        "leaderboard.measuring.run",
        "leaderboard.rows.save",
    ),
    *("leaderboard.plans.network_calls", "leaderboard.measuring.measure", "leaderboard.show.at", "plotting.to_png"),
    *("recipes.recipe.recipe_from", "recipes.parts.make_task"),
    *("text.kernel.sequence_log_prob", "text.unmasking.draw_tokens", "text.sums.blanked", "tasks.tokens.in_words"),
    *(
        "text.language.reverse_kernel",
        "text.kernel.hidden_at_random",
        "text.sums.Alphabet.encode",
        "text.sums.shuffled_sums",
        "data.texts.folded",
    ),
    *("data.texts.numbers_of", "sound.random_notes", "film.standardised", "film.pixels", "film.shifted_frames"),
    *("film.clips_of", "text.network.TokenTransformer.forward", "denoisers.clips.ClipDenoiser.forward"),
    *("widgets.explore", "widgets.slider", "widgets.span", "widgets.choice"),  # ipywidgets says in words what it wants
}

# What is answered, and rightly: function(argument), with wildcards -> what may be wrong with it.
FINE = {
    # one time for all images, and its least value
    "*(t)": "an axis fewer, zero",
    "*(s)": "zero",
    "schedules.jumps.*(t)": "twice as many, an axis more",
    "reverse_steps.bounds.*(t)": "twice as many, an axis more",
    "losses.loss_weight(t)": "twice as many, an axis more",
    # any number will do, and zero for none
    "schedules.discrete.sigmoid(*)": "negative, zero",
    "schedules.continuous.LearnedSchedule(gamma_*)": "negative, zero",
    "schedules.loss_aware.LossAwareSampler(uniform)": "zero",
    "schedules.*t_at_log_snr(log_snr)": "bytes, infinity",
    "samplers.ddim.sample_ddim(eta)": "zero",
    "samplers.wrappers.clip_x0(*)": "negative, zero",
    "leaderboard.measuring.affordable(sizes)": "huge, backwards",
    "*(guidance)": "zero",
    "guidance.*(w)": "zero",
    "guidance.away_from_class(unwanted)": "zero",
    "guidance.in_interval(low)": "negative, zero",
    "guidance.in_interval(high)": "zero",
    "inpainting.*(known)": "an axis more, an axis fewer",  # spread over the batch
    "inpainting.*(mask)": "bools, an axis more, an axis fewer",
    "inpainting.towards(y)": "an axis fewer",
    "inpainting.towards(w)": "zero",
    "inpainting.box_mask(top)": "zero",
    "inpainting.box_mask(left)": "zero",
    "inpainting.box_mask(bottom)": "zero",  # no box
    "inpainting.box_mask(right)": "zero",
    "metrics.evaluation.noisy_accuracy(log_snr)": "negative, zero",
    "denoisers.denoiser.Denoiser(data_mean)": "negative, zero",
    "*(num_classes)": "zero",
    "*(seed)": "zero",
    "*(batch)": "zero",
    "denoisers.unet.UNet(dropout)": "zero",
    "denoisers.swin.shift_mask(shift)": "zero",
    "runs.EMA(decay)": "zero",
    "runs.Training(*)": "zero",
    "training.train(*)": "zero, infinity",
    "training.train(images)": "floats",  # latents, as far as anybody can tell
    "data.batching.batches(images)": "floats",
    "training.train(warmup)": "a fraction",
    "metrics.estimates.share(hits)": "zero",
    "metrics.estimates.over_seeds(values)": "negative, huge, backwards",
    "metrics.modes.reverse_kl(counts)": "huge",
    "metrics.modes.mode_coverage(x)": "twice as many, NaN, infinity, elsewhere",  # no good samples
    "adversarial.losses.*(of_*)": "infinity",
    "metrics.samples_only.samples_only_accuracy(shift)": "zero",
    "metrics.samples_only.samples_only_accuracy(lr)": "zero",
    "reverse_steps.*.Varia*(floor)": "zero",
    "data.batching.batches(*)": "zero",
    # other images, other schedules, other networks
    "*(x)": "wider",
    "*(x_t)": "wider",
    "*(x_T)": "twice as many, an axis more, an axis fewer, wider, precision",
    "*(x_0)": "an axis more, precision",  # of float64 images other noise is drawn
    "*(images)": "wider, bytes, bools",
    "metrics.samples_only.samples_only_accuracy(test_images)": "wider",
    "metrics.*(features)": "twice as many, bools, bytes",
    "metrics.*(reference)": "twice as many",
    "metrics.neighbours.nearest(*)": "twice as many, bytes",
    "metrics.neighbours.two_nearest(*)": "twice as many, negative, huge",
    "cascades.*(r)": "zero",
    # what is given is met when it is asked
    "cascades.given_small(denoise)": "answers nothing, answers other shapes, answers elsewhere, answers bytes, "
    "answers a pair",
    "cascades.given_small(small)": "none, twice as many, wider",
    "metrics.neighbours.ratio_test(*)": "twice as many",
    "metrics.neighbours.copied(*)": "twice as many, bytes",
    "*(schedule)": "the other time",
    "*(shape)": "huge, backwards",
    "*(widths)": "huge, backwards",
    "denoisers.unet.UNet(attention)": "none, huge, backwards",
    "denoisers.unet.UNet(blocks)": "a list",
    "denoisers.costs.*(shape)": "huge, backwards",
    "_contract.times.check_grid(timesteps)": "huge",
    "samplers.step_selection.*(timesteps)": "huge, backwards",
    "variational.variances.denoising_errors(timesteps)": "none, backwards, nothing, a number",
    "toy.*(mean*)": "an axis more",
    "toy.*(covariance*)": "an axis fewer, bools, bytes",
    "toy.IdealDenoiser(images)": "wider",
    "variational.terms.gaussian_kl(var_*)": "bytes",
    "reverse_steps.bounds.*(variances)": "twice as many, an axis more, an axis fewer, infinity, bytes, bools",
    "*(labels)": "huge, negative",
    "paths.draw_paths(labels)": "twice as many",  # a pool to draw from
    "recipes.parts.one_of_each(*)": "twice as many",  # a pool, and as many as one likes of it
    "*(test_labels)": "huge",
    "plotting.to_pixels(images)": "infinity",  # as white as a screen can
    "data.pixels.denormalize(x)": "infinity",
    "text.sums.Alphabet.decode(x)": "none, twice as many, wider",  # texts, as many
    "film.*(clips)": "wider",
    "plotting.show_film(clips)": "wider, twice as many",
    "text.kernel.*(x_0)": "wider",
    "text.kernel.of_hidden(hidden)": "bools",
    "text.language.Language(sentences)": "wider",
    "text.network.TokenTransformer(reach)": "zero",
    "sound.griffin_lim(iterations)": "zero",
    "plotting.image_grid(*)": "none",
    "leaderboard.show.figure(own)": "none",
    # words for people; paths, whose errors are Python's own; None for the CPU
    "*(label)": "text, nothing, a number, a list",
    "*(name)": "text, nothing",
    "*(lesson)": "text, nothing, a number",
    "*(alt)": "text",
    "*(title*)": "text, text inside, a number",
    "*(row_labels)": "text, text inside, a number",
    "*(distribution)": "text, a number, a list",
    "*(path)": "text, nothing, a number",
    "*(folder)": "text, a number",
    "*(root)": "text",
    "*(checkpoint)": "text, a number",
    "*(content)": "text, nothing",
    "*(device)": "nothing",
    "*(rows)": "nothing, a number",
    "*(own)": "nothing, a number, text, text inside",
    "*(records)": "text, nothing, a number, none, text inside",
}
