"""Gin files, read so that a slip cannot pass.

Gin itself refuses a binding that names no function or no parameter. It lets a second binding of the
same parameter win silently, which is how the authors' release came to bind `Encoder.init` twice and
`Decoder.init` never: here that is an error too.
"""

from collections.abc import Sequence
from pathlib import Path

import gin
from gin import config_parser

import submission.features
import submission.finetune
import submission.vae  # noqa: F401 (all three register what configurations bind)
from submission.errors import UserError, first_line

CONFIGS = Path(__file__).parent / "configs"


def load_config(file: Path, bindings: Sequence[str] = ()) -> None:
    """Replaces the whole gin configuration by one file and then the command line's bindings.

    Args:
        file: a gin file, or the bare name of one in submission/configs.
        bindings: `Function.parameter=value`, each overriding the file.

    Raises:
        UserError: no such file, a syntax error, a binding that names nothing, or one parameter
            bound twice in the file.
    """
    path = find_config(file)
    text = path.read_text()
    _refuse_double_bindings(text, path)
    gin.clear_config()
    try:
        with gin.unlock_config():
            gin.parse_config(text)
    except Exception as error:  # gin raises ValueError, SyntaxError, NameError and its own kinds
        raise UserError(f"{path}: {first_line(error)}") from error
    for binding in bindings:
        try:
            with gin.unlock_config():
                gin.parse_config(binding)
        except Exception as error:
            raise UserError(
                f"the binding {binding!r} is not understood ({first_line(error)}): write "
                "Function.parameter=value as in submission/configs"
            ) from error


def find_config(file: Path) -> Path:
    """The file itself if there is one, else the shipped configuration of that name."""
    for candidate in (file, CONFIGS / file.name, CONFIGS / f"{file.name}.gin"):
        if candidate.is_file():
            return candidate
    shipped = ", ".join(sorted(path.name for path in CONFIGS.glob("*.gin")))
    raise UserError(f"no configuration {file}: name a gin file or one of {shipped}")


def _refuse_double_bindings(text: str, path: Path) -> None:
    seen: dict[tuple[str, str, str], int] = {}
    parser = config_parser.ConfigParser(text, _Ignore())
    try:
        for statement in parser:
            if not isinstance(statement, config_parser.BindingStatement):
                continue
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
    except SyntaxError as error:
        raise UserError(f"{path}: {first_line(error)}") from error


class _Ignore(config_parser.ParserDelegate):
    """Leaves @references and %macros unresolved: only the bindings' names are of interest."""

    def configurable_reference(self, scoped_name: str, evaluate: bool) -> None:
        return None

    def macro(self, scoped_name: str) -> None:
        return None
