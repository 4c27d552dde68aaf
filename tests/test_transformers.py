"""Transformers: patches, gates that start at zero, windows that shift; each against the same written otherwise."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.denoisers import DiT, Swin
from course_utils.denoisers.costs import count_flops
from course_utils.denoisers.dit import AdaLNZero, LastLayer, TokenAttention, modulate, patchify, unpatchify
from course_utils.denoisers.embeddings import sinusoidal_2d
from course_utils.denoisers.layers import zeroed
from course_utils.denoisers.swin import (
    WindowAttention,
    merge,
    relative_index,
    shift_mask,
    split,
    window_partition,
    window_reverse,
)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stirred(module, scale=0.3, seed=0):
    """A float64 module with noise on every weight: what starts at zero then shows."""
    generator, module = torch.Generator().manual_seed(seed), module.double()
    with torch.no_grad():
        for weight in module.parameters():
            weight += scale * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    return module


# --- patches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "height", "width", "patch"), [(3, 8, 12, 4), (1, 6, 4, 2), (2, 3, 3, 3)])
def test_patches_are_those_of_unfold_and_go_back(channels, height, width, patch):
    x = draw(2, channels, height, width)
    tokens = patchify(x, patch)
    assert torch.equal(tokens, F.unfold(x, patch, stride=patch).mT)
    assert torch.equal(unpatchify(tokens, patch, height, width), x)


def test_patches_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="x: wanted sides that are multiples of 4"):
        patchify(draw(1, 1, 8, 6), 4)
    for height, width, said in ((8, 6, "height, width: wanted"), (8, 8, "tokens: wanted"), (4, 4, "tokens: wanted")):
        with pytest.raises(ValueError, match=said):
            unpatchify(draw(1, 2, 16), 4, height, width)


# --- attention over tokens -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_token_attention_is_pytorchs_head_by_head(qk_norm, biased):
    layer, h = stirred(TokenAttention(12, 3, qk_norm), 1.0), 3 * draw(2, 5, 7, 12)
    bias = draw(5, 3, 7, 7, seed=1) if biased else None
    q, k, v = (layer.qkv(h)[..., i * 12 : (i + 1) * 12] for i in range(3))
    heads = []
    for m in range(3):
        part = slice(4 * m, 4 * m + 4)
        one, other = q[..., part], k[..., part]
        if qk_norm:
            eps = torch.finfo(torch.float64).eps
            one = one / (one.square().mean(-1, keepdim=True) + eps).sqrt() * layer.scales[0]
            other = other / (other.square().mean(-1, keepdim=True) + eps).sqrt() * layer.scales[1]
        mask = None if bias is None else bias[:, m]
        heads.append(F.scaled_dot_product_attention(one, other, v[..., part], mask))
    expected = layer.out(torch.cat(heads, -1))
    torch.testing.assert_close(layer(h, bias), expected, atol=1e-10, rtol=0)
    layer.fused = True
    torch.testing.assert_close(layer(h, bias), expected, atol=1e-10, rtol=0)


def test_with_qk_norm_no_logit_exceeds_the_root_of_d_and_the_size_of_weights_does_not_matter():
    layer, h = stirred(TokenAttention(16, 2), 1.0), draw(3, 9, 16)
    with torch.no_grad():
        layer.scales.fill_(1.0)
        layer.qkv.bias.zero_()
        before = layer(h)
        layer.qkv.weight[:32] *= 100  # of queries and keys
        after = layer(h)
    torch.testing.assert_close(after, before, atol=1e-8, rtol=0)
    q = F.rms_norm(layer.qkv(h)[..., :8], (8,))
    torch.testing.assert_close(
        q.norm(dim=-1), torch.full((3, 9), math.sqrt(8)).double()
    )  # q · k <= d, by Cauchy-Schwarz
    with torch.no_grad():
        layer.qkv.weight[:32] /= 100
        layer.scales = None
        plain = layer(h)
        layer.qkv.weight[:32] *= 100
        assert not torch.allclose(layer(h), plain, atol=1e-2)  # without it, it does


# --- adaLN-zero ------------------------------------------------------------------------------------------------------


def test_a_block_starts_as_the_identity_and_is_the_formula():
    block, h, vector = AdaLNZero(8, 5, TokenAttention(8, 2)).double(), draw(3, 6, 8), draw(3, 5, seed=1)
    assert torch.equal(block(h, vector), h)
    stirred(block)
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = block.modulation(vector).split(8, dim=1)
    expected = []
    for i in range(3):  # a picture at a time, so that nothing has to be spread over tokens
        x = h[i]
        for shift, scale, gate, f in (
            (shift_1, scale_1, gate_1, lambda y: block.mixer(y[None])[0]),
            (shift_2, scale_2, gate_2, block.mlp),
        ):
            norm = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
            x = x + gate[i] * f((1 + scale[i]) * norm + shift[i])
        expected.append(x)
    torch.testing.assert_close(block(h, vector), torch.stack(expected), atol=1e-12, rtol=0)
    # and tokens may lie in a grid
    grid = block.mixer
    block.mixer = nn.Identity()
    of_row = block(h, vector)
    torch.testing.assert_close(block(h.unflatten(1, (2, 3)), vector).flatten(1, 2), of_row, atol=0, rtol=0)
    block.mixer = grid


def gradients(block, steps=2):
    """Names of the layers that get a gradient, at each of some steps of gradient descent."""
    h, vector, aim = draw(3, 6, 8), draw(3, 5, seed=1), draw(3, 6, 8, seed=2)
    found = []
    for _ in range(steps):
        block.zero_grad()
        (block(h, vector) - aim).square().mean().backward()
        weights = list(block.named_parameters())
        found.append({name.split(".")[0] for name, w in weights if w.grad is not None and w.grad.abs().sum() > 0})
        with torch.no_grad():
            for _, weight in weights:
                weight -= 0.1 * (0 if weight.grad is None else weight.grad)
    return found


def test_zeros_learn_one_after_the_other_and_two_in_a_row_never():
    torch.manual_seed(0)
    assert gradients(AdaLNZero(8, 5, TokenAttention(8, 2)).double()) == [{"modulation"}, {"modulation", "mixer", "mlp"}]
    stuck = AdaLNZero(8, 5, TokenAttention(8, 2)).double()
    zeroed(stuck.mixer.out)
    zeroed(stuck.mlp[-1])
    assert gradients(stuck) == [set(), set()]


def test_the_last_layer_starts_at_zero_and_learns_at_once():
    torch.manual_seed(0)
    last = LastLayer(8, 5, 4).double()
    h, vector = draw(3, 6, 8), draw(3, 5, seed=1)
    assert torch.equal(last(h, vector), torch.zeros(3, 6, 4).double())
    (last(h, vector) - 1).square().mean().backward()
    assert last.linear.weight.grad.abs().sum() > 0
    assert last.modulation.weight.grad.abs().sum() == 0
    shift, scale = stirred(last).modulation(vector).chunk(2, dim=1)
    torch.testing.assert_close(last(h, vector), last.linear(modulate(h, shift[:, None], scale[:, None])))


# --- DiT -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patch", [2, 4, 7])
def test_a_dit_block_costs_what_its_tokens_cost(patch):
    n, c = (28 // patch) ** 2, 24
    three, two = (count_flops(DiT(1, c, blocks, 4, patch), (1, 28, 28)) for blocks in (3, 2))
    assert three - two == 24 * n * c**2 + 4 * n * n * c + 2 * c * 6 * c


def test_a_dit_knows_places_by_their_sinusoids_alone():
    """Without them it does not mind the order of patches; with them it does, and they are the same at another size."""
    torch.manual_seed(0)
    network = stirred(DiT(1, 16, 2, 2, 2))
    x, log_snr = draw(1, 1, 8, 8), torch.zeros(1).double()
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    shuffled = unpatchify(patchify(x, 2)[:, order], 2, 8, 8)
    out, other = (patchify(network(y, log_snr), 2) for y in (x, shuffled))
    assert not torch.allclose(out[:, order], other, atol=1e-3)
    places = sinusoidal_2d(4, 4, 16).flatten(1).mT.double()
    inputs = []
    network.blocks[0].register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    network(x, log_snr)
    network(shuffled, log_snr)
    torch.testing.assert_close((inputs[0] - places)[:, order], inputs[1] - places, atol=1e-6, rtol=0)
    assert torch.equal(sinusoidal_2d(4, 4, 16), sinusoidal_2d(9, 5, 16)[:, :4, :4])


# --- windows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "columns", "window"), [(6, 9, 3), (4, 4, 2), (7, 7, 7), (6, 4, (3, 2))])
def test_windows_are_slices_of_the_grid_and_go_back(rows, columns, window):
    grid = draw(2, rows, columns, 5)
    down, across = window if isinstance(window, tuple) else (window, window)
    windows = window_partition(grid, window)
    slices = [
        grid[:, i : i + down, j : j + across].flatten(1, 2)
        for i in range(0, rows, down)
        for j in range(0, columns, across)
    ]
    assert torch.equal(windows, torch.stack(slices, 1))
    assert torch.equal(window_reverse(windows, window, rows, columns), grid)


def test_windows_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"h: wanted sides that are multiples of \(4, 4\), got \(8, 6\)"):
        window_partition(draw(1, 8, 6, 2), 4)
    with pytest.raises(ValueError, match="windows: wanted those"):
        window_reverse(draw(1, 4, 16, 2), 4, 8, 12)


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (8, 12), (9, 7), (5, 10)])
@pytest.mark.parametrize("shift", [0, 1, 2])
def test_who_may_look_lay_as_far_apart_before_as_now(rows, columns, shift):
    """Padding is marked by places of its own; tokens of a window whose offsets were other ones came round the edge."""
    window = 4
    padded = (rows + -rows % window, columns + -columns % window)
    i, j = torch.meshgrid(*map(torch.arange, padded), indexing="ij")
    far = 1000
    before = torch.stack([i + far * (i >= rows), j + far * (j >= columns)]).roll((-shift, -shift), (1, 2))

    def apart(places):
        cut = window_partition(places.double().movedim(0, -1)[None], window)[0]
        return cut[:, :, None] - cut[:, None]

    expected = (apart(before) == apart(torch.stack([i, j]))).all(-1)
    assert torch.equal(shift_mask(rows, columns, window, shift), expected)
    if not shift and (rows, columns) == padded:
        assert expected.all()


@pytest.mark.parametrize(("window", "largest"), [(3, 3), (4, 4), ((2, 3), 4), (1, 1)])
def test_an_entry_of_the_table_is_an_offset_and_no_other(window, largest):
    index = relative_index(window, largest)
    down, across = window if isinstance(window, tuple) else (window, window)
    places = list(itertools.product(range(down), range(across)))
    table = torch.arange((2 * largest - 1) ** 2).reshape(2 * largest - 1, 2 * largest - 1)
    for (a, (i, j)), (b, (k, l)) in itertools.product(enumerate(places), repeat=2):
        assert index[a, b] == table[largest - 1 + i - k, largest - 1 + j - l]


def block_mask(rows, columns, window, shifted):
    """Who may look at whom in the whole grid, said without any rolling: windows begin at …, s - w, s, s + w, …"""

    def numbers(side):
        place = torch.arange(side)
        if window >= side:
            return 0 * place
        return (place - (window // 2 if shifted else 0)).div(window, rounding_mode="floor")

    row, column = torch.meshgrid(numbers(rows), numbers(columns), indexing="ij")
    row, column = row.flatten(), column.flatten()
    return (row[:, None] == row) & (column[:, None] == column)


GRIDS = [(14, 14, 7), (7, 7, 7), (8, 12, 4), (9, 7, 4), (5, 3, 4), (10, 3, 4), (4, 9, 3), (6, 6, 9)]


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("rows", "columns", "window"), GRIDS)
def test_window_attention_is_full_attention_that_was_forbidden_most_pairs(rows, columns, window, shifted):
    layer, grid = stirred(WindowAttention(12, 3, window, shifted)), draw(2, rows, columns, 12)
    allowed = block_mask(rows, columns, window, shifted)
    i, j = (place.flatten() for place in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
    down, across = i[:, None] - i + window - 1, j[:, None] - j + window - 1
    entry = (down * (2 * window - 1) + across).clamp(0, layer.bias.shape[1] - 1)  # of forbidden pairs, any
    bias = layer.bias[:, entry].masked_fill(~allowed, -math.inf)
    full = layer.attention(grid.flatten(1, 2), bias).reshape(grid.shape)
    torch.testing.assert_close(layer(grid), full, atol=1e-6, rtol=0)
    layer.attention.fused = True
    torch.testing.assert_close(layer(grid), full, atol=1e-6, rtol=0)


def test_a_window_that_holds_everything_does_not_shift():
    plain, shifted = (stirred(WindowAttention(8, 2, 7, how)) for how in (False, True))
    shifted.load_state_dict(plain.state_dict())
    for side in (3, 7):
        grid = draw(1, side, side, 8)
        assert torch.equal(plain(grid), shifted(grid))
    grid = draw(1, 8, 8, 8)
    assert not torch.allclose(plain(grid), shifted(grid), atol=1e-3)


@pytest.mark.parametrize(("side", "window"), [(16, 4), (14, 7), (9, 3), (10, 4)])
def test_a_pair_of_layers_sees_what_can_be_computed_and_nothing_else(side, window):
    pair = stirred(nn.Sequential(WindowAttention(8, 2, window, False), WindowAttention(8, 2, window, True)))
    shift, widest = window // 2, 0
    for i, j in itertools.product((0, 1, side // 2 - 1, side // 2, side - 1), repeat=2):
        x = draw(1, side, side, 8).requires_grad_()
        pair(x)[0, i, j].sum().backward()
        expected = torch.zeros(side, side, dtype=torch.bool)
        spans = []
        for place in (i, j):
            start = (place - shift) // window * window + shift
            a, b = max(0, start), min(side, start + window)
            spans.append(slice(a // window * window, -(-b // window) * window))
        expected[spans[0], spans[1]] = True
        assert torch.equal(x.grad[0].abs().amax(-1) > 0, expected)
        widest = max(widest, int(expected.any(0).sum()))
    assert widest == min(side, 2 * window)


# --- Swin ------------------------------------------------------------------------------------------------------------


def test_merging_takes_neighbours_and_splitting_undoes_it():
    grid = draw(2, 4, 6, 3)
    merged = merge(grid)
    assert torch.equal(merged[:, 1, 2], grid[:, 2:4, 4:6].flatten(1))
    assert torch.equal(split(merged), grid)


def test_a_swin_sees_the_whole_digit_and_every_second_block_shifts():
    network = Swin(1, (16, 32), head=8, window=7)
    attentions = [module for module in network.modules() if isinstance(module, WindowAttention)]
    assert [one.shifted for one in attentions] == [False, True] * 3
    assert [one.attention.heads for one in attentions] == [2, 2, 4, 4, 2, 2]
    x = draw(1, 1, 28, 28).requires_grad_()
    stirred(network)(x, torch.zeros(1).double())[0, 0, 3, 3].backward()
    assert (x.grad != 0).all()  # its coarse level has one window
