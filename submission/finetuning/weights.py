"""The two files that finetuning ends in: the extractor's weights and the heads."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from submission.features.extractor import FEATURE_SIZE
from submission.features.weights import SHIPPED_WEIGHTS, read_weights
from submission.finetuning.network import FACTOR_SIZES, Network
from submission.runtime.errors import UserError
from submission.runtime.files import replacing
from submission.runtime.paths import WEIGHTS

SHIPPED_HEADS = WEIGHTS / "heads.safetensors"


def write_weights(network: Network, folder: Path, metadata: dict[str, str]) -> None:
    """Writes vgg19_bn_agg.safetensors (float16; keys `features.*`, `aggregator.*`) and
    heads.safetensors (float32; `heads.0` .. `heads.6`, with `head_scale` in its metadata).

    Raises:
        UserError: a weight is beyond float16's range.
    """
    state: dict[str, Tensor] = {}
    for key, value in network.extractor.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            small = value.detach().cpu().half().contiguous()
            if not bool(torch.isfinite(small).all()):
                raise UserError(
                    f"{key} is beyond float16's range: lower finetune.learning_rate and "
                    "finetune.backbone_learning_rate"
                )
            state[key.removeprefix("aggregation.")] = small
    heads = {
        f"heads.{key}": value.detach().cpu().contiguous()
        for key, value in network.heads.state_dict().items()
    }
    for name, tensors, extra in (
        (SHIPPED_WEIGHTS.name, state, {}),
        (SHIPPED_HEADS.name, heads, {"head_scale": repr(network.head_scale)}),
    ):
        with replacing(folder / name) as file:
            file.write(save(tensors, metadata | extra))


def read_heads(path: Path) -> list[tuple[Tensor, Tensor]]:
    """The seven heads as (weight, bias), float32, to be applied to the unit vector itself (the
    file's `head_scale` is multiplied into the weights).

    Raises:
        UserError: as read_weights, or not the heads of this project.
    """
    if not path.is_file():
        raise UserError(f"no heads file {path}: give --heads the path of one")
    tensors = read_weights(path)
    try:
        with safe_open(path, "pt") as file:
            scale = float((file.metadata() or {})["head_scale"])
        heads = [
            (tensors[f"heads.{i}.weight"].float() * scale, tensors[f"heads.{i}.bias"].float())
            for i in range(len(FACTOR_SIZES))
        ]
    except (KeyError, ValueError, SafetensorError) as error:
        raise UserError(
            f"{path} holds no heads of this project ({error} is missing or wrong): name a "
            f"{SHIPPED_HEADS.name} that `finetune` wrote"
        ) from error
    for i, (size, (weight, bias)) in enumerate(zip(FACTOR_SIZES, heads, strict=True)):
        if weight.shape != (size, FEATURE_SIZE) or bias.shape != (size,):
            raise UserError(
                f"{path} is of another architecture: 'heads.{i}' should read {size} values from "
                f"{FEATURE_SIZE} numbers and is {tuple(weight.shape)}"
            )
    return heads
