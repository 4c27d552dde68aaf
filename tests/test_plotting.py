"""Figures can be read by everybody: in words, and in colours that colour-blind readers tell apart."""

import itertools
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from course_utils import plotting

ROOT = Path(__file__).parents[1]

# Machado, Oliveira and Fernandes (2009), severity 1, for linear RGB.
VISION = {
    "full": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # of linear sRGB


def linear(colour: str) -> np.ndarray:
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b*, in which distances are about what an eye sees; 2 is just noticed."""
    x, y, z = np.cbrt(np.clip(XYZ @ rgb / (XYZ @ np.ones(3)), 1e-6, None))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def closest(colours: list[str], vision: str) -> tuple[float, str, str]:
    seen = {colour: lab(np.clip(VISION[vision] @ linear(colour), 0, 1)) for colour in colours}
    return min((np.linalg.norm(seen[a] - seen[b]).item(), a, b) for a, b in itertools.combinations(colours, 2))


@pytest.mark.parametrize("vision", VISION)
def test_the_palette_can_be_told_apart(vision):
    np.testing.assert_allclose(np.sum(VISION[vision], axis=1), 1, atol=1e-5)  # white stays white
    distance, *pair = closest(plotting.COLOURS, vision)
    assert distance > 15, pair


def test_the_simulation_confuses_what_colour_blind_readers_confuse():
    red_and_green = ["tab:red", "tab:green"]
    assert closest(red_and_green, "deuteranopia")[0] < 10 < 100 < closest(red_and_green, "full")[0]


def test_lessons_draw_in_the_palette():
    """By name, in shades of grey, or in a colour map whose lightness alone says it."""
    allowed = {"white", "none", "Greys", "Blues", "RdBu", "viridis", "viridis_r", "magma_r"}
    for path in sorted((ROOT / "notebooks" / "src").glob("*.py")):
        source = path.read_text(encoding="utf-8")
        named = re.findall(r"""\b(?:color|colors|colour|cmap|ec|fc|mfc|edgecolor|facecolor)=["']([^"']*)["']""", source)
        named += re.findall(r"""["'](#[0-9a-fA-F]{3,8}|(?:tab|xkcd):\w+)["']""", source)
        strange = {name for name in named if name not in allowed and not re.fullmatch(r"0\.\d+", name)}
        assert not strange, f"{path.name}: {strange}"


@pytest.mark.parametrize("server", [True, False])
def test_a_figure_says_in_words_what_it_shows(server, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(plotting, "display", lambda *it, **how: shown.append((it[0], how)))
    monkeypatch.setenv("JPY_SESSION_NAME", "lesson.ipynb") if server else monkeypatch.delenv("JPY_SESSION_NAME", False)
    plotting.show(plt.figure(figsize=(2, 1)), 'A line & a "point".')
    ((it, how),) = shown
    data, about = (it, how["metadata"]) if server else it._repr_mimebundle_()
    assert about["image/png"] == {"width": 192, "alt": 'A line & a "point".'}
    assert data["image/png"].startswith("iVBOR")
    assert ("text/html" in data) == server
    if server:
        assert f'src="data:image/png;base64,{data["image/png"]}"' in data["text/html"]
        assert 'width="192" alt="A line &amp; a &quot;point&quot;."' in data["text/html"]


def test_words_of_a_legend_stand_on_white():
    with plt.rc_context():
        plotting.use_style()
        figure, axis = plt.subplots()
        axis.plot([0, 1], label="a line")
        frame = axis.legend().get_frame()
        assert axis.get_legend().get_frame_on()
        assert to_rgb(frame.get_facecolor()) == (1, 1, 1)
        assert frame.get_alpha() >= 0.8
        plt.close(figure)
