"""Tables inside a page of prose: only what stands between two markers is generated.

A page has the lines `<!-- NAME -->` and `<!-- /NAME -->`, each once, around each generated table.
"""

from pathlib import Path

from submission.runtime.files import write_text


def shown(page: Path, name: str) -> str:
    """The text between the markers called `name`.

    Raises:
        ValueError: a marker is missing, or stands there twice.
    """
    return _parts(page, name)[1]


def show(page: Path, name: str, table: str) -> None:
    """Replaces the text between the markers called `name`; the rest of the page stays as it is.

    Raises:
        ValueError: a marker is missing, or stands there twice.
    """
    before, _, after = _parts(page, name)
    write_text(page, before + table.strip("\n") + after)


def _parts(page: Path, name: str) -> tuple[str, str, str]:
    """The page up to and with the first marker, what is between, and the rest."""
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{page} must hold the markers <!-- {name} --> and <!-- /{name} --> once")
    before, _, rest = text.partition(begin)
    between, _, after = rest.partition(end)
    return before + begin, between, end + after
