"""What a configuration of finetuning binds."""

from collections.abc import Sequence
from pathlib import Path

from submission.features.extractor import Extractor
from submission.finetuning.images import file_source, open_source, rendered_source
from submission.finetuning.network import Network
from submission.finetuning.training import Settings
from submission.runtime.config import asks_for, load_config, refuse_unbound


def load_finetuning(file: Path, bindings: Sequence[str] = ()) -> None:
    """Makes a gin file and bindings the configuration of finetuning; UserError as load_config."""
    functions = (Extractor, Network, open_source, Settings)
    sources = (file_source, rendered_source)
    load_config(file, bindings, functions, sources)
    refuse_unbound(filter(asks_for, sources))
