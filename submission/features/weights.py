"""Weight files: checked, read without a pickle, and made into an extractor."""

import copy
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from submission.features.extractor import Aggregation, Extractor
from submission.runtime.errors import UserError
from submission.runtime.files import sha256
from submission.runtime.paths import WEIGHTS

SHIPPED_WEIGHTS = WEIGHTS / "vgg19_bn_agg.safetensors"


def load_extractor(weights: Path, extractor: Extractor | None = None) -> Extractor:
    """An extractor filled from a weight file: in evaluation mode, float32, with batch norm folded
    into the convolutions.

    Args:
        weights: a safetensors file with keys `features.*` (torchvision's names) and
            `aggregator.*`; for stage 1 also torchvision's own `vgg19_bn-*.pth`, of which only
            `features.*` are used.
        extractor: a new one that is filled; None for the one that gin describes.

    Raises UserError for no such file, a git-lfs pointer, and one that is cut short, tampered with
    (its SHA-256 differs from the one recorded beside it), of another architecture, or with values
    that no network can compute with.
    """
    tensors = read_weights(weights)
    extractor = extractor or Extractor()
    copy_weights(extractor, tensors, str(weights), with_aggregation=True)
    folded = fold_batch_norm(extractor)
    # After the folding, so that a negative variance shows, too.
    for key, value in folded.state_dict().items():
        if not bool(torch.isfinite(value.sum())):
            what = f"{weights} holds NaN, infinity or a negative variance (seen in {key} after"
            how = "copy or download it again, or name another file with --weights"
            raise UserError(f"{what} folding): {how}")
    return folded


def copy_weights(
    extractor: Extractor, tensors: dict[str, Tensor], name: str, with_aggregation: bool
) -> None:
    """Copies `features.*` and, if asked for, `aggregator.*` into a new extractor, as float32.
    Raises UserError if a tensor is missing or has another shape."""
    state = extractor.state_dict()
    for own_key, own in state.items():
        key = own_key.removeprefix("aggregation.")
        skipped = key.startswith("aggregator.") and not with_aggregation
        if skipped or key.endswith("num_batches_tracked"):
            continue
        if key not in tensors or tensors[key].shape != own.shape:
            has = tuple(tensors[key].shape) if key in tensors else "nothing"
            what = f"another architecture: {key!r} should be {tuple(own.shape)} and is {has}"
            how = "name a weight file of VGG19-BN, such as `finetune` writes"
            raise UserError(f"{name} is of {what}; {how}")
        state[own_key] = tensors[key].float()
    extractor.load_state_dict(state)


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a weight file after its checks; raises UserError as load_extractor does."""
    if not path.is_file():
        raise UserError(f"no weight file {path}: give --weights the path of one")
    check_sha256(path)
    try:
        if path.suffix == ".pth":
            state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
            if not all(isinstance(key, str) and _is_plain(state[key]) for key in state):
                raise ValueError("not names and tensors")
            return state
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        what = f"{path} is cut short or no safetensors file"
        raise UserError(f"{what}: copy it again ({error})") from error
    except Exception as error:  # torch.load raises whatever its unpickler met
        what = f"{path} cannot be read as plain tensors"
        raise UserError(f"{what}: copy or download it again") from error


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and value.is_cpu


def check_sha256(path: Path) -> str:
    """A weight file's SHA-256, compared with SHA256SUMS beside it (`sha256sum` format) if listed.
    Raises UserError for a git-lfs pointer, or a digest other than the recorded one."""
    with open(path, "rb") as file:
        if file.read(43).startswith(b"version https://git-lfs.github.com/spec"):
            raise UserError(f"{path} is a git-lfs pointer, not the weights: run `git lfs pull`")
    digest = sha256(path)
    sums = path.parent / "SHA256SUMS"
    if sums.is_file():
        for line in sums.read_text(errors="replace").splitlines():
            recorded, _, name = line.partition("  ")
            if name == path.name and recorded != digest:
                sums_say = f"recorded in {sums.name} {recorded[:12]}..."
                what = f"{path} is not the recorded file (SHA-256 {digest[:12]}..., {sums_say})"
                raise UserError(f"{what}: check it out again")
    return digest


def fold_batch_norm(extractor: Extractor) -> Extractor:
    """A copy in evaluation mode whose convolutions carry their batch norms (1.1x on a CPU) and
    without dropout, which does nothing there."""
    folded = copy.deepcopy(extractor).eval()
    folded.features = _folded(folded.features)
    if isinstance(folded.aggregation, Aggregation):
        folded.aggregation.aggregator = _folded(folded.aggregation.aggregator)
    return folded


def _folded(layers: nn.Sequential) -> nn.Sequential:
    result: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.Dropout2d):
            continue
        if isinstance(layer, nn.BatchNorm2d):
            conv = result.pop()
            assert isinstance(conv, nn.Conv2d)
            layer = fuse_conv_bn_eval(conv, layer)
        result.append(layer)
    return nn.Sequential(*result)
