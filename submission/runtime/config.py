"""Gin files, read so that a slip cannot pass.

Gin lets a second binding of the same parameter win silently, which is how the authors' release came
to bind `Encoder.init` twice and `Decoder.init` never: here that is an error, as is a binding that
would do nothing, a value of the wrong kind, and a parameter that nothing binds.
"""

import contextlib
import tokenize
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import gin
from gin import config_parser

from submission.runtime.errors import UserError, first_line
from submission.runtime.kinds import Kind
from submission.runtime.paths import CONFIGS

T = TypeVar("T", bound=Callable[..., Any])
# Of each configurable function or class the parameters that a gin file binds, and its name there.
_PARAMETERS: dict[str, dict[str, Kind]] = {}
_NAMES: dict[Callable[..., Any], str] = {}
# Names of an earlier version, and what to do about them.
_OLD_NAMES = {
    "train_groups.heaps": "is called train_groups.clusters now: rename it",
    "finetune.half_size_epochs": "was removed (training at 32x32 did not pay): leave it out",
    "start_network.maps": "was removed (every backbone is VGG19's): leave it out",
}


def configurable(function: T) -> T:
    """Lets gin bind the parameters that are annotated with a Kind, and no others."""
    return _register(function, function.__name__)


def configurable_as(name: str) -> Callable[[T], T]:
    """The same under a name of its own."""
    return lambda function: _register(function, name)


def _register(function: T, name: str) -> T:
    signature = vars(function)["__init__"] if isinstance(function, type) else function
    hints = get_type_hints(signature, include_extras=True)
    marks = {parameter: getattr(hint, "__metadata__", ()) for parameter, hint in hints.items()}
    kinds = {p: mark for p, found in marks.items() for mark in found if isinstance(mark, Kind)}
    with gin.unlock_config():  # a caller who uses this as a library may have locked it
        registered: T = gin.configurable(name, allowlist=list(kinds))(function)
    _PARAMETERS[name], _NAMES[registered] = kinds, name
    return registered


def load_config(
    file: Path,
    bindings: Sequence[str],
    functions: Sequence[Callable[..., Any]],
    optional: Sequence[Callable[..., Any]] = (),
) -> None:
    """Replaces the whole gin configuration by one file and then the command line's bindings.

    Args:
        file: a gin file, or the bare name of one in submission/configs.
        bindings: `Function.parameter=value`, each overriding the file.
        functions: the configurable ones that are called; all their parameters must be bound.
        optional: further ones that may be bound; see refuse_unbound.

    Raises UserError for no such file, a syntax error, an import, a binding that names nothing or
    nothing of these functions, a parameter bound twice in one file or not at all, and a value that
    it cannot have.
    """
    called = [_NAMES[function] for function in (*functions, *optional)]
    gin.clear_config()
    for path, text in config_texts(find_config(file)):
        try:
            _bind(text, called)
        except Exception as error:  # gin raises ValueError, SyntaxError, NameError and its own
            line = f":{error.line}" if isinstance(error, _Slip) else ""
            raise UserError(f"{path}{line}: {first_line(error)}") from error
    for binding in bindings:
        try:
            if len(list(_statements(binding))) != 1:
                raise ValueError("no binding, or more than one")
            _bind(binding, called)
        except Exception as error:
            what = f"the binding {binding!r} is not understood ({first_line(error)})"
            how = "write Function.parameter=value as in submission/configs"
            raise UserError(f"{what}: {how}") from error
    refuse_unbound(functions)


def refuse_unbound(functions: Iterable[Callable[..., Any]]) -> None:
    """Raises UserError for a parameter of these functions that has no value, or one that it cannot
    have: of those that load_config takes as optional, for the caller to say which are called."""
    for function in functions:
        for parameter, kind in _PARAMETERS[_NAMES[function]].items():
            _refuse_wrong_value(f"{_NAMES[function]}.{parameter}", kind)


def find_config(file: Path) -> Path:
    """The file itself if there is one, else the shipped configuration of that bare name; raises
    UserError if there is neither. A path with folders is that file or none: a slip in it must not
    lead to the shipped file of the same name."""
    bare = [CONFIGS / file, CONFIGS / f"{file}.gin"] if file.name == str(file) else []
    for candidate in (file, *bare):
        if candidate.is_file():
            return candidate
    shipped = ", ".join(sorted(path.name for path in CONFIGS.glob("*.gin")))
    raise UserError(f"no configuration {file}: name a gin file or one of {shipped}")


def config_texts(path: Path) -> list[tuple[Path, str]]:
    """A configuration as files and their bindings; later ones override earlier ones.

    A file may begin with `include "NAME.gin"`, the name of a shipped one, whose bindings then come
    first. Nothing else is included, so that no binding comes from where nobody looks. Raises
    UserError if the file is no text, or includes another way.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a BOM
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text (UTF-8): name a gin file") from error
    first = None
    with contextlib.suppress(Exception):  # what is wrong with it is said where all of it is parsed
        first = next(_statements(text), None)
    if not isinstance(first, config_parser.IncludeStatement):
        return [(path, text)]
    shipped = CONFIGS / first.filename
    if shipped.parent != CONFIGS or not shipped.is_file() or shipped == path:
        what = f"{path}: include {first.filename!r} is not taken: name a file of submission/configs"
        raise UserError(f"{what} without a folder, or write the bindings themselves")
    line = first.location[1]
    own = "\n" * line + "\n".join(text.splitlines()[line:])  # errors name the file's own lines
    return [*config_texts(shipped), (path, own)]


class _Slip(Exception):
    """A binding that gin would take, or would refuse in other words."""

    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.line = line


def _bind(text: str, called: Sequence[str]) -> None:
    """Hands gin one file's bindings or one of the command line, after a look at each. Raises
    SyntaxError if it cannot be parsed or is none (an import could run code), and _Slip if it names
    nothing of the functions `called`, or a parameter a second time."""
    seen: dict[str, int] = {}
    for statement in _statements(text):
        if not isinstance(statement, config_parser.BindingStatement):
            what = "import is not taken, and include only as the first line"
            raise SyntaxError(f"{what}: write the bindings themselves")
        # `vae.Encoder.init` and `Encoder.init` are the same parameter.
        function = statement.selector.rpartition(".")[2]
        name, line = f"{function}.{statement.arg_name}", statement.location[1]
        if name in _OLD_NAMES:
            raise _Slip(f"{name} {_OLD_NAMES[name]}", line)
        if statement.scope or function not in called:
            what = "/".join(filter(None, (statement.scope, name))) + " has no part in this command"
            raise _Slip(f"{what}: leave it out (bindings are of {', '.join(called)})", line)
        if statement.arg_name not in _PARAMETERS[function]:
            known = ", ".join(_PARAMETERS[function])
            raise _Slip(f"{name} names nothing: {function} has {known}", line)
        if name in seen:
            what = f"{name} is bound a second time (first in line {seen[name]})"
            raise _Slip(f"{what}: remove one of the two lines", line)
        seen[name] = line
    with gin.unlock_config():
        gin.parse_config(text)


def _statements(text: str) -> Iterator[Any]:
    try:
        yield from config_parser.ConfigParser(text, _Ignore())
    except (tokenize.TokenError, RecursionError) as error:
        raise SyntaxError(f"a bracket or quote is left open ({error})") from error


def _refuse_wrong_value(name: str, kind: Kind) -> None:
    if not _is_bound(name):
        raise UserError(f"{name} has no value: bind it, as the files in submission/configs do")
    value = gin.query_parameter(name)
    if isinstance(value, gin.config.ConfigurableReference):
        raise UserError(f"{name} is {value}, it must be a value: write it out")
    if not kind.good(value):
        raise UserError(f"{name} is {value!r:.100}, it must be {kind.words}")


def asks_for(function: Callable[..., Any]) -> bool:
    """Whether the configuration binds any parameter of a configurable function."""
    name = _NAMES[function]
    return any(_is_bound(f"{name}.{parameter}") for parameter in _PARAMETERS[name])


def _is_bound(name: str) -> bool:
    with contextlib.suppress(ValueError):
        gin.query_parameter(name)
        return True
    return False


class _Ignore(config_parser.ParserDelegate):
    """Leaves @references and %macros unresolved: only the bindings' names are of interest."""

    def configurable_reference(self, scoped_name: str, evaluate: bool) -> None:
        return None

    def macro(self, scoped_name: str) -> None:
        return None
