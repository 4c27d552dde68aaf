"""The live view of a training passes on what it sees, shows where it is, and costs little."""

import time
from types import SimpleNamespace

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
    """By a clock of our own: a step takes half a second, a drawing 0.4 s, so it is drawn every 20 s."""
    clock = SimpleNamespace(now=0.0, drawings=0)

    def slow_drawing(*_):
        clock.now, clock.drawings = clock.now + 0.4, clock.drawings + 1

    def slow_steps():
        for record in records(2000):
            clock.now += 0.5
            yield record

    monkeypatch.setattr(widgets, "_loss_curve", slow_drawing)
    monkeypatch.setattr(widgets, "_put", lambda *_: None)
    monkeypatch.setattr(widgets, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    for _ in watch(slow_steps(), 2000):
        if clock.now < 2:
            assert clock.drawings == (clock.now > 1)  # the first one comes soon
    first_and_last = 2
    assert 0.4 * (clock.drawings - first_and_last) <= clock.now / 50
    assert clock.drawings > 40  # and it goes on


def test_the_smoothed_curve_is_an_average_without_bias():
    assert widgets._smoothed([3.0]) == [3.0]
    assert widgets._smoothed([2.0] * 50) == pytest.approx([2.0] * 50)
    noisy = [1 + (-1) ** i for i in range(400)]
    assert all(abs(value - 1) < 0.1 for value in widgets._smoothed(noisy)[100:])
