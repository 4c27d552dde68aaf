"""The live view of a training passes on what it sees, shows where it is, and costs little."""

import time

import pytest
import torch

from course_utils import widgets
from course_utils.training import Record
from course_utils.widgets import watch

PNG = b"\x89PNG"


def records(n, seconds=0.0, first=1):
    for step in range(first, n + 1):
        time.sleep(seconds)
        yield Record(step, 1 / step, 1e-3, 1.0, torch.zeros(1), None)


@pytest.fixture
def page(monkeypatch):
    """What is displayed: the bar, the words beside it, the curve, the samples."""
    shown = []
    monkeypatch.setattr(widgets, "display", shown.append)

    def parts():
        (box,) = shown
        (bar, words), curve, samples = box.children[0].children, *box.children[1:]
        return bar, words, curve, samples

    return parts


def test_every_record_passes_through_in_order_and_the_bar_ends_full(page):
    seen = [record.step for record in watch(records(30), 30, label="U-Net")]
    bar, words, curve, samples = page()
    assert seen == list(range(1, 31))
    assert (bar.value, bar.max, bar.bar_style, bar.description) == (30, 30, "success", "U-Net")
    assert words.value.startswith("step 30 of 30, loss 0.0")
    assert bytes(curve.value).startswith(PNG)
    assert curve.layout.display == ""
    assert (bytes(samples.value), samples.layout.display) == (b"", "none")  # none were asked for


def test_samples_are_drawn_now_and_then_and_at_the_end(page):
    calls = []

    def sample():
        calls.append(1)
        return torch.zeros(4, 1, 8, 8)

    for record in watch(records(25), 25, sample=sample, every=10):
        assert len(calls) == record.step // 10 + (record.step == 25)
    assert bytes(page()[3].value).startswith(PNG)


def test_a_break_shows_where_it_stopped(page):
    stream = watch(records(30), 30)
    for record in stream:
        if record.step == 7:
            break
    stream.close()
    bar, words, curve, _ = page()
    assert (bar.value, bar.bar_style) == (7, "warning")
    assert "step 7 of 30" in words.value
    assert bytes(curve.value).startswith(PNG)


def test_a_resumed_training_counts_its_own_steps_and_an_empty_one_is_no_error(page):
    assert [record.step for record in watch(records(30, first=21), 30)] == list(range(21, 31))
    assert page()[0].value == 30


def test_nothing_to_train_is_no_error(page):
    assert list(watch(records(0), 10)) == []
    assert page()[0].value == 0


def test_redrawing_takes_a_small_part_of_the_time(page, monkeypatch):
    drawn = []
    monkeypatch.setattr(widgets, "_loss_curve", lambda *_: drawn.append(time.sleep(0.05)))
    monkeypatch.setattr(widgets, "_put", lambda *_: None)
    start = time.monotonic()
    for _ in watch(records(200, 0.015), 200):
        pass
    seconds = time.monotonic() - start
    assert 2 <= len(drawn) <= 2 + seconds / 2.5  # after one second, every 2.5 from there on a slow machine, at the end


def test_the_smoothed_curve_is_an_average_without_bias():
    assert widgets._smoothed([3.0]) == [3.0]
    assert widgets._smoothed([2.0] * 50) == pytest.approx([2.0] * 50)
    noisy = [1 + (-1) ** i for i in range(400)]
    assert all(abs(value - 1) < 0.1 for value in widgets._smoothed(noisy)[100:])
