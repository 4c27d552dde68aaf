"""Widgets that run in the reader's browser: which there are, their controls, and the files that they need.

A cell of a lesson that calls `explore(draw, …)` is live on the web page if docs/book/live/widgets has `NN.draw.js`.
Its controls and its words are those of the call, evaluated here: there is no second copy of them.

    docs/book/live/*.js           frame, figures, noise, samplers, U-Net, gradients   ──► _static/live, as they are
    data/checkpoints, data/mnist  weights in float16, 2,000 digits, packed            ──► scripts that hold them, for a
    TensorFlow.js, from npm       its core and its WebAssembly, pinned by hashes          page from a file fetches none
"""

import ast
import base64
import contextlib
import hashlib
import html
import itertools
import json
import re
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ipywidgets

from course_utils import widgets
from course_utils.data import data_dir, load_images
from course_utils.desk.lesson import ROOT
from course_utils.pretrained import read_manifest

LIVE = ROOT / "docs" / "book" / "live"
CACHE = ROOT / ".cache" / "book"
DIGITS = 2000
NETWORKS = ("mnist-unet", "mnist-onestep")
NOTE = "<p><em>A live widget: open the lesson in Colab or JupyterLab to use it.</em></p>"
LIBRARY = {
    "tf-core.js": "tfjs-core/dist/tf-core.es2017.min.js",
    "tf-backend-wasm.js": "tfjs-backend-wasm/dist/tf-backend-wasm.es2017.min.js",
    "wasm": "tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm",
}

# ---------------------------------------------------------------- from a lesson's cell to the page


def live_cell(lesson: str, source: str, page: list[str]) -> tuple[str, str] | None:
    """A widget's name, and what stands for its cell on the web page, as HTML; None if it is not live.

    Args:
        lesson: the notebook's name, `01_forward_process`.
        source: the cell's code.
        page: the code of all cells, in which the dicts stand whose keys a control may list.

    Raises:
        ValueError: its controls cannot be told without running the page.
    """
    call = explored(source)
    name = name_of(lesson, call) if call else ""
    if call is None or not (LIVE / "widgets" / f"{name}.js").exists():
        return None
    try:
        about = html.escape(json.dumps(described(call, page), ensure_ascii=False), quote=True)
    except Exception as error:
        raise ValueError(f"{lesson}: the controls of `{name}` need values that only a kernel has: {error}") from error
    return name, f'<div class="live" data-widget="{name}" data-controls="{about}">{NOTE}</div>'


def scripts(names: Iterable[str]) -> str:
    """The scripts of a page with these widgets, as HTML: run in this order, once the page is there."""
    files = ["maths", "draw", "digits", "gradients", "unet", "files", *(f"widgets/{name}" for name in names), "frame"]
    return "\n".join(f'<script defer src="../_static/live/{name}.js"></script>' for name in files)


def explored(source: str) -> ast.Call | None:
    """A cell's call of `explore` with a function that has a name, if there is one."""
    for node in ast.walk(ast.parse(source)) if "explore(" in source else ():
        match node:
            case ast.Call(func=ast.Name(id="explore"), args=[ast.Name()]):
                return node
    return None


def name_of(lesson: str, call: ast.Call) -> str:
    """A widget's name: its lesson's number and the function that draws it, `00.draw`."""
    return f"{lesson[:2]}.{ast.unparse(call.args[0])}"


def described(call: ast.Call, page: list[str]) -> dict[str, Any]:
    """The alt text and the controls of a call of `explore`, made by the very functions that the lesson calls."""
    makers = {"slider": widgets.slider, "span": widgets.span, "choice": widgets.choice}
    names = {**makers, **keys_of_dicts(page)}
    arguments = {
        keyword.arg: eval(compile(ast.Expression(keyword.value), "explore", "eval"), dict(names))  # our own lessons
        for keyword in call.keywords
    }
    alt = arguments.pop("alt")
    return {"alt": alt, "controls": [_control(str(name), made) for name, made in arguments.items()]}


def keys_of_dicts(page: list[str]) -> dict[str, dict[Any, None]]:
    """The dicts that a page defines by their keys alone, where these can be told without running it."""
    found = {}
    plain = [source for source in page if not re.search(r"(?m)^\s*[!%]", source)]  # without a shell's commands
    for node in itertools.chain.from_iterable(ast.parse(source).body for source in plain):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict(keys=keys)) if all(keys):
                source: ast.expr = ast.Dict(keys=keys, values=[ast.Constant(None)] * len(keys))
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.DictComp() as made):
                source = ast.DictComp(key=made.key, value=ast.Constant(None), generators=made.generators)
            case _:
                continue
        try:
            found[name] = eval(compile(ast.fix_missing_locations(ast.Expression(source)), name, "eval"), {})
        except Exception:  # its keys are computed: no control can list them
            continue
    return found


def _control(name: str, made: ipywidgets.ValueWidget) -> dict[str, Any]:
    about = {"name": name, "label": made.description, "value": made.value}
    if isinstance(made, ipywidgets.ToggleButtons):
        options = [option if isinstance(option, tuple) else (option, option) for option in made.options]
        return about | {"kind": "choice", "options": options}
    digits = int(made.readout_format.strip(".f")) if made.readout_format.endswith("f") else 0
    kind = "span" if isinstance(made.value, tuple) else "slider"
    return about | {"kind": kind, "min": made.min, "max": made.max, "step": made.step, "digits": digits}


# ---------------------------------------------------------------- the files


def write_files(folder: Path) -> str | None:
    """All that live widgets need, into a folder of the site. What is missing of it, in words, or None."""
    shutil.copytree(LIVE, folder, ignore=shutil.ignore_patterns("package*.json"))
    problem: str | None = None
    files: dict[str, dict[str, Any]] = {"digits": _written(folder, {"digits-data.js": _digits()})}
    try:
        library = vendored()
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        missing = "TensorFlow.js could not be fetched when it was made"
        files |= {name: {"missing": missing} for name in NETWORKS}
        problem = f"widgets that ask a network are left out: npm could not fetch TensorFlow.js\n{said}"
    else:
        scripts = {name: library[name].read_text(encoding="utf-8") for name in library if name != "wasm"}
        scripts["tf-wasm.js"] = _data("wasm", file=_packed(library["wasm"].read_bytes()))
        files |= {name: _written(folder, scripts | {f"{name}.js": _network(name)}) for name in NETWORKS}
        shutil.copyfile(LIVE.parent / "tex-svg-full.LICENSE.txt", folder / "tf.LICENSE.txt")  # Apache 2.0, both
    (folder / "files.js").write_text(f"course.files = {json.dumps(files)};\n", encoding="utf-8")
    return problem


def vendored() -> dict[str, Path]:
    """The files of TensorFlow.js, as pinned in package-lock.json: npm fetches them once and checks their hashes.

    Raises:
        OSError: there is no npm.
        CalledProcessError: it cannot fetch them, and its stderr says why.
    """
    made = CACHE / hashlib.sha256((LIVE / "package-lock.json").read_bytes()).hexdigest()[:16]
    if not made.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as aside:
            for name in ("package.json", "package-lock.json"):
                shutil.copyfile(LIVE / name, Path(aside, name))
            command = [shutil.which("npm") or "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=aside, check=True, capture_output=True, text=True)
            with contextlib.suppress(OSError):  # another process was faster
                Path(aside, "node_modules").rename(made)
    return {name: made / "@tensorflow" / path for name, path in LIBRARY.items()}


def _written(folder: Path, contents: dict[str, str]) -> dict[str, Any]:
    for name, text in contents.items():
        (folder / name).write_text(text, encoding="utf-8")
    return {"files": list(contents), "bytes": sum((folder / name).stat().st_size for name in contents)}


def _network(name: str) -> str:
    """Header and float16 weights, first bytes before second ones: as these are more alike, they deflate to less."""
    weights = (data_dir() / "checkpoints" / f"{name}.safetensors").read_bytes()
    start = 8 + int.from_bytes(weights[:8], "little")
    planes = weights[:start] + weights[start::2] + weights[start + 1 :: 2]
    return _data(name, planes=_packed(planes), head=start, moments=read_manifest()[name]["pixel_moments"])


def _digits() -> str:
    pixels, labels = load_images("mnist", "train", n=DIGITS)
    return _data("digits", pixels=_packed(pixels.numpy().tobytes()), labels="".join(map(str, labels.tolist())))


def _data(name: str, **values: Any) -> str:
    return f"course.data[{json.dumps(name)}] = {json.dumps(values)};\n"


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode()
