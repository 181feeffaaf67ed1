"""Starting weights: ImageNet's, CRAFT's, one of our files, or none."""

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import VGG19_BN_Weights

from submission.features.extractor import Extractor
from submission.features.weights import read_weights
from submission.finetuning.network import Network
from submission.finetuning.weights import read_heads
from submission.runtime.errors import UserError

# VGG16-BN's convolutions by their place in torchvision's `features`, and their places in VGG19-BN.
# The fourth of VGG19-BN's blocks 3 and 4 and two of block 5 have no counterpart in the CRAFT file.
_CRAFT_TO_VGG19 = {
    0: 0, 3: 3, 7: 7, 10: 10, 14: 14, 17: 17, 20: 20, 24: 27, 27: 30, 30: 33, 34: 40, 37: 43,
}  # fmt: skip
_IDENTITY_CONVOLUTIONS = (23, 36, 46, 49)


def start_network(start: str, craft_file: Path | None, heads: Path | None, seed: int) -> Network:
    """The network as training begins; what no file gives is He-uniform (PyTorch's own
    initialisation in an untrained VGG).

    Args:
        start: "imagenet", "craft", "scratch", or a file: one of our weight files, or
            torchvision's vgg19_bn-*.pth (its backbone only).
        craft_file: CRAFT's craft_mlt_25k.pth.
        heads: a heads file; None for new heads.

    Raises:
        UserError: no such file, one of another architecture, or a failed download.
    """
    torch.manual_seed(seed)
    network = Network(Extractor())
    if start == "imagenet":
        try:
            tensors = VGG19_BN_Weights.IMAGENET1K_V1.get_state_dict(
                progress=True, check_hash=True, weights_only=True
            )
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"ImageNet's weights cannot be downloaded ({error}): name a local copy of "
                f"{VGG19_BN_Weights.IMAGENET1K_V1.url.rpartition('/')[2]} with --from"
            ) from error
        load_start(network.extractor, dict(tensors), start)
    elif start == "craft":
        if craft_file is None:
            raise UserError("--from craft needs --craft-file, the path of craft_mlt_25k.pth")
        load_start(network.extractor, craft_weights(craft_file), str(craft_file))
    elif start != "scratch":
        load_start(network.extractor, read_weights(Path(start)), start)
    if heads is not None:
        with torch.no_grad():
            for head, (weight, bias) in zip(network.heads, read_heads(heads), strict=True):
                assert isinstance(head, nn.Linear)
                head.weight.copy_(weight / network.head_scale)
                head.bias.copy_(bias)
    return network


def load_start(extractor: Extractor, tensors: dict[str, Tensor], name: str) -> None:
    """Copies `features.*` and, if there are any, `aggregator.*` into the extractor.

    Raises:
        UserError: a tensor is missing or has another shape.
    """
    with_aggregation = any(key.startswith("aggregator.") for key in tensors)
    state = extractor.state_dict()
    for own_key, own in state.items():
        key = own_key.removeprefix("aggregation.")
        skipped = key.startswith("aggregator.") and not with_aggregation
        if skipped or key.endswith("num_batches_tracked"):
            continue
        if key not in tensors or tensors[key].shape != own.shape:
            has = tuple(tensors[key].shape) if key in tensors else "nothing"
            raise UserError(
                f"{name} is of another architecture: {key!r} should be {tuple(own.shape)} and is "
                f"{has}; name a file made for VGG19-BN"
            )
        state[own_key] = tensors[key].float()
    extractor.load_state_dict(state)


def craft_weights(path: Path) -> dict[str, Tensor]:
    """VGG19-BN's `features.*` from CRAFT's VGG16-BN (ImageNet filters, finetuned on text).

    The four convolutions without a counterpart pass on what they are given: after a ReLU a
    centre-one filter, a batch norm that (in evaluation) does nothing, and another ReLU do so.

    Raises:
        UserError: as read_weights, or not the CRAFT file.
    """
    found = {}
    for key, value in read_weights(path).items():
        module, _, rest = key.removeprefix("module.basenet.").partition(".")
        if key.startswith("module.basenet.") and module in ("slice1", "slice2", "slice3", "slice4"):
            found[rest] = value
    tensors: dict[str, Tensor] = {}
    norm = ("weight", "bias", "running_mean", "running_var")
    for theirs, ours in _CRAFT_TO_VGG19.items():
        for shift, names in ((0, ("weight", "bias")), (1, norm)):
            for name in names:
                if f"{theirs + shift}.{name}" not in found:
                    raise UserError(
                        f"{path} is not CRAFT's weights: no convolution {theirs} of VGG16-BN in "
                        "it; name craft_mlt_25k.pth"
                    )
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
