"""Options that every converter takes from the command line, and how it says that something is wrong."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn


class Problem(Exception):
    """A person's mistake, or a model that cannot be converted: one line, exit status 2."""


PRESETS: dict[str, dict[str, Any]] = {
    "imagenet": {
        "resize": 256,
        "crop": 224,
        "channels": "RGB",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    },
    "minus1to1": {"mean": [0.5], "std": [0.5]},
    "unit": {},
    "bytes": {"scale": 255.0},
    "caffe": {
        "resize": 256,
        "crop": 224,
        "channels": "BGR",
        "scale": 255.0,
        "mean": [103.939, 116.779, 123.68],
    },
}
_KEYS = ("resize", "crop", "channels", "scale", "mean", "std", "interpolation")
_WORDS = {"channels": ("RGB", "BGR", "grey"), "interpolation": ("bilinear", "bicubic", "nearest")}
KINDS = ("logits", "probabilities", "embedding")
_LETTERS = "NCKHWDTPXB"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all else that goes wrong."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"error: {message}; --help lists all options\n")
        sys.exit(2)


def parser(doc: str, model: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all converters share."""
    command_parser = _Parser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    command_parser.add_argument("model", metavar="MODEL", help=model)
    command_parser.add_argument(
        "-o", "--out", metavar="OUT.onnx", required=True, help="the file to write"
    )
    group = command_parser.add_argument_group("settings stored in the file")
    group.add_argument(
        "--preprocess",
        metavar="PRESET|FILE|KEY=VALUE...",
        help=f"{', '.join(PRESETS)}; a JSON file; or KEY=VALUE such as 'imagenet resize=232 crop=224x320'",
    )
    group.add_argument(
        "--classes", metavar="FILE", help="file of class names: one per line, or a JSON list"
    )
    group.add_argument("--output-kind", choices=KINDS, help="kind of the output")
    group.add_argument(
        "--latent",
        metavar="LAYER",
        help="the latent: a module path (PATH:in for the module's input) or a tensor",
    )
    group.add_argument(
        "--input-layout",
        metavar="[NAME=]LETTERS",
        type=layout_of_input,
        action="append",
        default=[],
        help="one letter per axis of the input, such as NHWC, NCT, NPX; with several inputs give NAME=LETTERS for "
        "each",
    )
    group.add_argument(
        "--layout",
        metavar="LAYER=LETTERS",
        type=layout_of_layer,
        action="append",
        default=[],
        help="the same for a module's output or a tensor: NCHW, NXHW, NTD:14x14+1; repeatable",
    )
    group = command_parser.add_argument_group("parity check after the export")
    group.add_argument(
        "--data", metavar="FILE", help="also check real samples: .npy, .npz, or a folder of images"
    )
    group.add_argument(
        "--tolerance",
        type=_positive,
        default=1e-4,
        help="largest difference allowed, as a share of the largest value (default: %(default)s)",
    )
    group.add_argument("--seed", type=int, default=0, help="seed of random weights and inputs")
    return command_parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError("must be a share between 0 and 1")
    return value


def command(command_parser: argparse.ArgumentParser, convert: Callable[[Any], None]) -> None:
    """Run a converter as a command: errors for people are one line and exit status 2."""
    settings = command_parser.parse_args()
    # So that a `kill` or a closed terminal cleans up as Ctrl-C does.
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    sys.path.insert(0, os.getcwd())  # MODULE:CALLABLE is looked for here, as `python -m` does
    try:
        out = Path(settings.out)
        if out.is_dir():
            raise Problem(
                f"-o {out}: this is a folder; give a file name, such as {out / 'model.onnx'}"
            )
        if not out.parent.is_dir():
            raise Problem(f"-o {out}: there is no folder {out.parent}; make it first")
        convert(settings)
        if sys.stdout is not None:
            sys.stdout.flush()
    except Problem as problem:
        _tell(f"error: {problem}")
        sys.exit(2)
    except KeyboardInterrupt:
        _tell("interrupted; nothing was written")
        sys.exit(130)
    except _StoppedError as stopped:
        _tell(f"{signal.Signals(stopped.args[0]).name}; nothing was written")
        sys.exit(128 + stopped.args[0])
    except OSError as error:
        # The file is there, if it was stdout that failed. A reader that has gone is no error.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            name = f": {error.filename}" if error.filename else ""
            _tell(f"error: {error.strerror or error}{name}")
            sys.exit(2)


class _StoppedError(BaseException):
    """A signal came."""


def _stop(number: int, _: Any) -> NoReturn:
    raise _StoppedError(number)


def _tell(text: str) -> None:
    """Tell the user something on stderr, if there is one."""
    with contextlib.suppress(OSError, AttributeError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def reason_of(error: BaseException, longest: int = 240) -> str:
    """Return an error of a library as one line."""
    while error.__cause__ is not None:  # what was wrong, not what it led to
        error = error.__cause__
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    text = f"{type(error).__name__}: {' '.join(lines)}" if lines else type(error).__name__
    return text if len(text) <= longest else text[: longest - 3] + "..."


def note(text: str) -> None:
    """Tell the user something on stderr."""
    _tell(f"note: {text}")


@contextlib.contextmanager
def missing(package: str, install: str) -> Iterator[None]:
    """Turn a failed import into a line that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise Problem(
            f"{error.name or package} is not installed in this Python; {install}, or use a Python "
            f"that has it: /path/to/python {sys.argv[0]}"
        ) from None
    except (ImportError, RuntimeError, OSError) as error:
        raise Problem(f"{package} cannot be imported ({reason_of(error)})") from None


def checked_layout(text: str, source: str) -> str:
    """Return a layout if it is one: a letter an axis, or tokens on a grid."""
    if re.fullmatch(r"NTD:[1-9]\d*x[1-9]\d*(\+\d+)?", text):
        return text
    strange = next((letter for letter in text if letter not in _LETTERS), None)
    most = {"P": 2}
    twice = next((x for x in text if text.count(x) > most.get(x, 1)), None)
    if strange is not None:
        wrong = "use capital letters" if strange.islower() else f"there is no letter {strange!r}"
    elif text[:1] != "N":
        wrong = "N, the batch, must come first"
    elif twice:
        wrong = f"{twice} occurs {text.count(twice)} times"
    else:
        return text
    raise Problem(
        f"{source}: {wrong}; write one letter per axis: N batch, C or K channels, H W plane, D depth, T line, "
        "P points, X components, B bases (NCHW, NCT, NPX, NPP), or NTD:14x14+1"
    )


def layout_of_input(text: str) -> tuple[str, str]:
    """Read ``NPX`` or ``pos=NPX`` of the command line: name, empty where there is none, and layout."""
    name, _, layout = text.rpartition("=")
    return name, _argument(layout, text)


def layout_of_layer(text: str) -> tuple[str, str]:
    """Read ``LAYER=NPC`` of the command line."""
    layer, equals, layout = text.rpartition("=")
    if not layer or not equals:
        raise argparse.ArgumentTypeError(f"{text}: write LAYER=LETTERS, such as output=NPX")
    return layer, _argument(layout, text)


def _argument(layout: str, text: str) -> str:
    try:
        return checked_layout(layout, text)
    except Problem as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


def read_classes(path: str | None) -> list[str] | None:
    """Read class names from a JSON list or from lines."""
    if path is None:
        return None
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"--classes {path}: cannot be read as text ({reason_of(error)})") from None
    if text.lstrip()[:1] in "[{":
        try:
            content = json.loads(text)
        except ValueError as error:
            raise Problem(f"--classes {path}: not JSON ({error})") from None
        if not isinstance(content, list) or not all(isinstance(c, (str, int)) for c in content):
            raise Problem(f"--classes {path}: not a JSON list of names")
        names = [str(c) for c in content]
    else:
        names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise Problem(f"--classes {path}: the file has no names")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise Problem(f"--classes {path}: names {twice!r} twice; give each class a name of its own")
    return names


def read_preprocess(text: str | None) -> dict[str, Any] | None:
    """Read what `onnx-geed measure --preprocess` reads, and return it as the JSON it stores."""
    if text is None:
        return None
    source = f"--preprocess {text!r}"
    if os.path.isfile(text):
        try:
            content = json.loads(Path(text).read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise Problem(f"{source}: not a JSON file ({reason_of(error)})") from None
        if not isinstance(content, dict):
            raise Problem(f"{source}: not a JSON object of {', '.join(_KEYS)}")
        return checked_preprocess(content, source)
    words = text.split()
    fields = dict(PRESETS.get(words[0], {})) if words else {}
    for word in words[1:] if words and words[0] in PRESETS else words or [""]:
        key, equals, value = word.partition("=")
        if not equals:
            raise Problem(f"{source}: not a preset ({', '.join(PRESETS)}), a file or key=value")
        try:
            fields[key] = _value(key, value)
        except ValueError:
            raise Problem(f"{source}: {key}={value} cannot be read") from None
    return checked_preprocess(fields, source)


def _value(key: str, text: str) -> Any:
    if text.lower() == "none":
        return None
    if key in ("resize", "crop"):
        sizes = [int(part) for part in text.lower().split("x")]
        return sizes[0] if len(sizes) == 1 else sizes
    if key in ("mean", "std"):
        return [float(part) for part in text.split(",")]
    return float(text) if key == "scale" else text


def checked_preprocess(content: dict[str, Any], source: str) -> dict[str, Any]:
    """Return preprocessing with sorted keys, without defaults, numbers as floats."""
    fields: dict[str, Any] = {}
    for key in sorted(content):
        value = content[key]
        if key not in _KEYS:
            raise Problem(f"{source}: there is no key {key!r}; the keys are {', '.join(_KEYS)}")
        if value is None or (key in ("mean", "std") and value == []):
            continue
        several = list(value) if isinstance(value, (list, tuple)) else [value]
        if key in _WORDS:
            fits = value in _WORDS[key]
        elif key in ("resize", "crop"):
            fits = len(several) <= 2 and all(type(v) is int and v > 0 for v in several)
        else:
            fits = all(type(v) in (int, float) and abs(v) < 3e38 for v in several)
            fits = fits and not (key in ("scale", "std") and 0 in several)
            value = [float(v) for v in several] if key != "scale" else float(several[0])
        if not fits:
            raise Problem(f"{source}: {key}={content[key]!r} is not a valid value")
        fields[key] = list(value) if isinstance(value, tuple) else value
    for key, default in (("scale", 1.0), ("interpolation", "bilinear")):
        if fields.get(key) == default:
            del fields[key]
    return fields
