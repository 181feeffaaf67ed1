"""Gin files, read so that a slip cannot pass.

Gin itself refuses a binding that names no function or no parameter. It lets a second binding of the
same parameter win silently, which is how the authors' release came to bind `Encoder.init` twice and
`Decoder.init` never: here that is an error too.
"""

import math
import tokenize
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gin
from gin import config_parser

from submission.features.extractor import FEATURE_SIZE
from submission.latents.groups import refuse_sizes
from submission.runtime.errors import UserError, first_line
from submission.runtime.paths import CONFIGS


def _whole(low: int, high: int = 2**31) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value < high


def _number(low: float, high: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: (
        type(value) in (int, float) and math.isfinite(value) and low <= value <= high
    )


def _several(one: Callable[[Any], bool], count: int | None = None) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, tuple | list)
        and (len(value) == count if count else len(value) > 0)
        and all(map(one, value))
    )


# What each kind of value must be: a test, and the words for the user. A name that is none of its
# choices is in here only where the function that refuses it comes after hours.
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "count": (_whole(1), "a whole number in 1..2147483647"),
    "count or none": (
        lambda value: value is None or _whole(1)(value),
        "a whole number of at least 1, or None",
    ),
    "several": (_whole(2), "a whole number in 2..2147483647"),
    "whole": (_whole(0), "a whole number in 0..2147483647"),
    "rate": (_number(1e-30), "a finite number above 0"),
    "rate or none": (
        lambda value: value is None or _number(1e-30)(value),
        "a finite number above 0, or None",
    ),
    "weight": (_number(0), "a finite number of at least 0"),
    "share": (_number(0, 1), "a number in 0..1"),
    "shares": (
        lambda value: _several(_number(0, 1), 3)(value) and sum(value) > 0,
        "three numbers in 0..1 in brackets, not all of them 0",
    ),
    "betas": (_several(_number(0, 0.999999), 2), "two numbers in 0..1, 1 excluded, in brackets"),
    "widths": (_several(_whole(1, 2**20)), "whole numbers in 1..1048575 in brackets: (512, 512)"),
    "switch": (lambda value: type(value) is bool, "True or False"),
    "optimizer": (lambda value: value in ("radam", "adam"), "'radam' or 'adam'"),
    "text": (lambda value: isinstance(value, str), "text in quotes"),
    "texts": (_several(lambda value: isinstance(value, str)), "texts in brackets"),
}
_PARAMETERS = {
    "Decoder": {"init": "text", "sigmoid": "switch", "widths": "widths"},
    "Encoder": {"init": "text", "widths": "widths"},
    "Extractor": {"aggregation": "text", "resolution": "count"},
    "Network": {"bfloat16": "switch", "dropout": "share", "head_scale": "rate"},
    "VAE": {"latents": "count"},
    "beta_at_epoch": {
        "beta_end": "weight", "beta_start": "weight", "t_end": "whole", "t_start": "whole",
    },
    "elbo_loss": {"average_over_batch": "switch"},
    "extract_features": {"batch_size": "count"},
    "file_source": {
        "datasets": "texts", "seed": "whole", "training_share": "share",
        "validation_images": "count or none",
    },
    "finetune": {
        "axis_smoothing": "weight", "backbone_learning_rate": "weight", "batch_size": "count",
        "betas": "betas", "checkpoint_steps": "count", "clip_norm": "rate or none",
        "epochs": "count", "learning_rate": "rate",
        "schedule": "text", "seed": "whole", "weight_decay": "weight",
    },
    "open_source": {"images": "text"},
    "rendered_source": {
        "images_per_epoch": "count", "mix": "shares", "seed": "whole", "strength": "weight",
        "validation_images": "count",
    },
    "train_groups": {
        "components": "count", "groups": "count", "heaps": "count", "redundant": "share",
        "sample": "count", "starts": "count",
    },
    "train_vae": {
        "batch_size": "several", "betas": "betas", "epochs": "count", "learning_rate": "rate",
        "optimizer": "optimizer", "seed": "whole",
    },
}  # fmt: skip


def load_config(file: Path, bindings: Sequence[str] = ()) -> None:
    """Replaces the whole gin configuration by one file and then the command line's bindings.

    Args:
        file: a gin file, or the bare name of one in submission/configs.
        bindings: `Function.parameter=value`, each overriding the file.

    Raises:
        UserError: no such file, a syntax error, an import or include, a binding that names
            nothing, one parameter bound twice in the file, or a value that it cannot have.
    """
    path = find_config(file)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text (UTF-8): name a gin file") from error
    seen: dict[tuple[str, str, str], int] = {}
    try:
        for statement in _bindings(text):
            # `vae.Encoder.init` and `Encoder.init` are the same parameter.
            function = statement.selector.rpartition(".")[2]
            key = (statement.scope, function, statement.arg_name)
            line = statement.location[1]  # (file, line, column, text)
            if key in seen:
                raise UserError(
                    f"{path}:{line}: {function}.{statement.arg_name} is bound a second time "
                    f"(first in line {seen[key]}): remove one of the two lines"
                )
            seen[key] = line
        gin.clear_config()
        with gin.unlock_config():
            gin.parse_config(text)
    except UserError:
        raise
    except Exception as error:  # gin raises ValueError, SyntaxError, NameError and its own kinds
        raise UserError(f"{path}: {first_line(error)}") from error
    for binding in bindings:
        try:
            if len(list(_bindings(binding))) != 1:
                raise ValueError("no binding, or more than one")
            with gin.unlock_config():
                gin.parse_config(binding)
        except Exception as error:
            raise UserError(
                f"the binding {binding!r} is not understood ({first_line(error)}): write "
                "Function.parameter=value as in submission/configs"
            ) from error
    _refuse_wrong_values()


def find_config(file: Path) -> Path:
    """The file itself if there is one, else the shipped configuration of that bare name.

    Raises:
        UserError: there is neither. A path with folders is that file or none: a slip in it must not
            lead to the shipped file of the same name.
    """
    bare = [CONFIGS / file, CONFIGS / f"{file}.gin"] if file.name == str(file) else []
    for candidate in (file, *bare):
        if candidate.is_file():
            return candidate
    shipped = ", ".join(sorted(path.name for path in CONFIGS.glob("*.gin")))
    raise UserError(f"no configuration {file}: name a gin file or one of {shipped}")


def _bindings(text: str) -> Iterator[config_parser.BindingStatement]:
    """The statements of a configuration, all of which must be bindings.

    Raises:
        SyntaxError: it cannot be parsed, or it imports or includes (which could run code and bind
            a parameter twice unseen).
    """
    try:
        for statement in config_parser.ConfigParser(text, _Ignore()):
            if not isinstance(statement, config_parser.BindingStatement):
                raise SyntaxError("import and include are not taken: write the bindings themselves")
            yield statement
    except (tokenize.TokenError, RecursionError) as error:
        raise SyntaxError(f"a bracket or quote is left open ({error})") from error


def _refuse_wrong_values() -> None:
    for function, parameters in _PARAMETERS.items():
        for parameter, kind in parameters.items():
            name = f"{function}.{parameter}"
            if not _is_bound(name):
                continue
            value = gin.query_parameter(name)
            if isinstance(value, gin.config.ConfigurableReference):
                raise UserError(f"{name} is {value}, it must be a value: write it out")
            good, words = _KINDS[kind]
            if not good(value):
                raise UserError(f"{name} is {value!r:.100}, it must be {words}")
    names = [f"train_groups.{name}" for name in ("components", "groups", "sample")]
    if all(map(_is_bound, names)):
        components, groups, sample = map(gin.query_parameter, names)
        refuse_sizes(components, groups, sample, FEATURE_SIZE)
    if not _is_bound("VAE.latents"):
        return
    latents = gin.query_parameter("VAE.latents")
    if asks_for_groups() and latents != 1:
        raise UserError(
            f"VAE.latents is {latents}, it must be 1 beside train_groups, which trains one latent "
            "for each group: change train_groups.groups"
        )
    if not asks_for_groups() and latents < 2:
        raise UserError(f"VAE.latents is {latents}, it must be at least 2: the metrics compare two")


_TRAINING = (
    "Extractor", "extract_features", "VAE", "Encoder", "Decoder", "elbo_loss", "beta_at_epoch",
    "train_vae",
)  # fmt: skip
_FINETUNING = (
    "Extractor", "Network", "open_source", "file_source", "rendered_source",
    "finetune",
)  # fmt: skip


def refuse_unfit() -> None:
    """Refuses a configuration that is not one of a training (features, VAE or groups).

    Raises:
        UserError: the first parameter that nothing binds, or the first binding that has no part
            in it, as a metric's or one within a scope.
    """
    functions = (*_TRAINING, "train_groups") if asks_for_groups() else _TRAINING
    refuse_foreign(functions)
    for function in functions:
        for parameter in _PARAMETERS[function]:
            if not _is_bound(f"{function}.{parameter}"):
                raise UserError(
                    f"{function}.{parameter} has no value: bind it, as the files in "
                    "submission/configs do"
                )


def refuse_foreign(functions: Sequence[str] = _FINETUNING) -> None:
    """Refuses bindings that would do nothing.

    Args:
        functions: those that are called; by default finetuning's.

    Raises:
        UserError: a binding of another function, or one within a scope.
    """
    for statement in _bindings(gin.config_str()):
        function = statement.selector.rpartition(".")[2]
        if statement.scope or function not in functions:
            name = "/".join(filter(None, (statement.scope, f"{function}.{statement.arg_name}")))
            raise UserError(
                f"{name} has no part in this command: leave it out (bindings are of "
                f"{', '.join(functions)})"
            )


def asks_for_groups() -> bool:
    """Whether the configuration binds train_groups, and so wants more than one VAE."""
    return any(_is_bound(f"train_groups.{name}") for name in _PARAMETERS["train_groups"])


def _is_bound(name: str) -> bool:
    try:
        gin.query_parameter(name)
    except ValueError:
        return False
    return True


class _Ignore(config_parser.ParserDelegate):
    """Leaves @references and %macros unresolved: only the bindings' names are of interest."""

    def configurable_reference(self, scoped_name: str, evaluate: bool) -> None:
        return None

    def macro(self, scoped_name: str) -> None:
        return None
