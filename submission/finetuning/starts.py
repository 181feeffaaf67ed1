"""Starting weights: ImageNet's, CRAFT's, one of our files, or none."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import VGG19_BN_Weights

from submission.features.extractor import Extractor
from submission.features.weights import check_sha256, copy_weights, read_weights
from submission.finetuning.network import FACTOR_SIZES, Network
from submission.finetuning.weights import read_heads
from submission.runtime.errors import UserError

# VGG16-BN's convolutions by their place in torchvision's `features`, and their places in VGG19-BN.
# The fourth of VGG19-BN's blocks 3 and 4 and two of block 5 have no counterpart in the CRAFT file.
_CRAFT = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37)
_VGG19 = (0, 3, 7, 10, 14, 17, 20, 27, 30, 33, 40, 43)
_IDENTITY_CONVOLUTIONS = (23, 36, 46, 49)


@dataclass(frozen=True)
class Start:
    """`weights`: "imagenet", "craft", "scratch", or a file: one of our weight files, or
    torchvision's vgg19_bn-*.pth (its backbone only)."""

    weights: str
    craft_file: Path | None = None  # CRAFT's craft_mlt_25k.pth
    heads: Path | None = None  # None for new heads

    @property
    def description(self) -> str:
        """Name, and the files' SHA-256 as far as needed to tell them apart."""
        given = [Path(self.weights).expanduser(), self.craft_file, self.heads]
        digests = [check_sha256(path)[:16] for path in given if path is not None and path.is_file()]
        return " ".join([Path(self.weights).name, *digests])


def start_network(start: Start, seed: int, values: tuple[int, ...] = FACTOR_SIZES) -> Network:
    """The network as training begins, with heads of so many `values`; what no file gives is
    He-uniform (PyTorch's own initialisation in an untrained VGG). A file of narrow heads gives
    wide ones the values that it has. UserError: no such file, one of another architecture, wide
    heads for a network of narrow ones, or a failed download."""
    torch.manual_seed(seed)
    network = Network(Extractor(), values=values)
    if start.weights != "scratch":
        tensors = _read_start(start)
        with_aggregation = any(key.startswith("aggregator.") for key in tensors)
        name = str(start.craft_file) if start.weights == "craft" else start.weights
        copy_weights(network.extractor, tensors, name, with_aggregation)
    if start.heads is not None:
        heads = read_heads(start.heads)
        if len(heads[0][1]) > values[0]:
            what = f"{start.heads} has heads for complex objects, which these images do not show"
            raise UserError(f"{what}: name other --heads, or let rendered_source.mix show some")
        with torch.no_grad():
            for head, (weight, bias) in zip(network.heads, heads, strict=True):
                assert isinstance(head, nn.Linear)
                head.weight[: len(bias)] = weight / network.head_scale
                head.bias[: len(bias)] = bias
    return network


def _read_start(start: Start) -> dict[str, Tensor]:
    if start.weights == "craft":
        if start.craft_file is None:
            raise UserError("--from craft needs --craft-file, the path of craft_mlt_25k.pth")
        return craft_weights(start.craft_file)
    if start.weights != "imagenet":
        return read_weights(Path(start.weights).expanduser())
    imagenet = VGG19_BN_Weights.IMAGENET1K_V1
    try:
        return dict(imagenet.get_state_dict(progress=True, check_hash=True, weights_only=True))
    except (OSError, RuntimeError) as error:
        what = f"ImageNet's weights cannot be downloaded ({error})"
        file = imagenet.url.rpartition("/")[2]
        raise UserError(f"{what}: name a local copy of {file} with --from") from error


def craft_weights(path: Path) -> dict[str, Tensor]:
    """VGG19-BN's `features.*` from CRAFT's VGG16-BN (ImageNet filters, finetuned on text).

    The four convolutions without a counterpart pass on what they are given: after a ReLU a
    centre-one filter, a batch norm that (in evaluation) does nothing, and another ReLU do so.
    UserError: as read_weights, or not the CRAFT file.
    """
    found = {}
    for key, value in read_weights(path).items():
        module, _, rest = key.removeprefix("module.basenet.").partition(".")
        if key.startswith("module.basenet.") and module in ("slice1", "slice2", "slice3", "slice4"):
            found[rest] = value
    tensors: dict[str, Tensor] = {}
    norm = ("weight", "bias", "running_mean", "running_var")
    for theirs, ours in zip(_CRAFT, _VGG19, strict=True):
        for shift, names in ((0, ("weight", "bias")), (1, norm)):
            for name in names:
                if f"{theirs + shift}.{name}" not in found:
                    what = f"{path} is not CRAFT's weights: no convolution {theirs} of VGG16-BN"
                    raise UserError(f"{what} in it; name craft_mlt_25k.pth")
                tensors[f"features.{ours + shift}.{name}"] = found[f"{theirs + shift}.{name}"]
    for ours in _IDENTITY_CONVOLUTIONS:
        size = 256 if ours == 23 else 512
        tensors[f"features.{ours}.weight"] = nn.init.dirac_(torch.empty(size, size, 3, 3))
        # Batch norm divides by sqrt(1 + eps).
        tensors[f"features.{ours + 1}.weight"] = torch.full((size,), math.sqrt(1 + 1e-5))
        tensors[f"features.{ours + 1}.running_var"] = torch.ones(size)
        for name in (f"{ours}.bias", f"{ours + 1}.bias", f"{ours + 1}.running_mean"):
            tensors[f"features.{name}"] = torch.zeros(size)
    return tensors
