"""The conditions under which a learner's function runs: the same whatever the page has done before, and put back."""

import contextlib
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch


@contextlib.contextmanager
def known_state() -> Iterator[None]:
    """PyTorch's switches as a fresh kernel has them, whatever a page has left them at; put back at the end.

    Gradients on, no inference mode, no autocast, float32 and the CPU where none is named. (Also a decorator.)
    """
    dtype, here = torch.get_default_dtype(), torch.get_default_device().type == "cpu"
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if not here:
            stack.enter_context(torch.device("cpu"))
        stack.callback(torch.set_default_dtype, dtype)
        torch.set_default_dtype(torch.float32)
        yield


@contextlib.contextmanager
def own_stream() -> Iterator[None]:
    """The lesson goes on as if nothing had been drawn."""
    state = torch.random.get_rng_state()
    try:
        yield
    finally:
        torch.random.set_rng_state(state)


@contextlib.contextmanager
def other_hash(function: Callable) -> Iterator[None]:
    """`hash` of a text answers as in another Python process, where it is another number: so in every call here, too."""
    page, salt = getattr(function, "__globals__", {}), secrets.token_bytes(8)

    def salted(x: Any) -> int:
        return hash(x) if _of_numbers(x) else hash((salt, x))

    if "hash" in page:
        yield
        return
    page["hash"] = salted
    try:
        yield
    finally:
        page.pop("hash", None)


def _of_numbers(x: Any) -> bool:
    return all(map(_of_numbers, x)) if isinstance(x, tuple) else isinstance(x, int | float)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Stop an endless loop, where the platform can: a Unix main thread, as in every notebook kernel there.

    On a busy machine, or one that slept, the clock runs and the process does not: who has worked for less than half of
    that time gets as much again, ten times in all.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    began, worked = time.monotonic(), time.process_time()

    def stop(*_: object) -> None:
        if time.process_time() - worked < seconds / 2 and time.monotonic() - began < 9.5 * seconds:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            return
        raise TimeoutError(f"still running after {seconds:.0f} seconds")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
