"""The two files that finetuning ends in: the extractor's weights and the heads."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from submission.features.extractor import FEATURE_SIZE
from submission.features.weights import SHIPPED_WEIGHTS, read_weights
from submission.finetuning.network import FACTOR_SIZES, WIDE_SIZES, Network
from submission.runtime.errors import UserError
from submission.runtime.files import replacing
from submission.runtime.paths import WEIGHTS

SHIPPED_HEADS = WEIGHTS / "heads.safetensors"


def write_weights(network: Network, folder: Path, metadata: dict[str, str]) -> None:
    """Writes vgg19_bn_agg.safetensors (float16; keys `features.*`, `aggregator.*`) and
    heads.safetensors (float32; `heads.0` .. `heads.6`, with `head_scale` in its metadata).
    UserError if a weight is beyond float16's range."""
    state: dict[str, Tensor] = {}
    for key, value in network.extractor.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            small = value.detach().cpu().half().contiguous()
            if not bool(torch.isfinite(small).all()):
                remedy = "lower finetune.learning_rate and finetune.backbone_learning_rate"
                raise UserError(f"{key} is beyond float16's range: {remedy}")
            state[key.removeprefix("aggregation.")] = small
    own = network.heads.state_dict().items()
    heads = {f"heads.{key}": value.detach().cpu().contiguous() for key, value in own}
    with replacing(folder / SHIPPED_WEIGHTS.name) as file:
        file.write(save(state, metadata))
    with replacing(folder / SHIPPED_HEADS.name) as file:
        file.write(save(heads, metadata | {"head_scale": repr(network.head_scale)}))


def read_heads(path: Path) -> list[tuple[Tensor, Tensor]]:
    """The seven heads, of FACTOR_SIZES or WIDE_SIZES, as (weight, bias), float32, to be applied to
    the unit vector itself (the file's `head_scale` is multiplied into the weights). UserError: as
    read_weights, or not the heads of this project."""
    if not path.is_file():
        raise UserError(f"no heads file {path}: give --heads the path of one")
    tensors = read_weights(path)
    try:
        with safe_open(path, "pt") as file:
            scale = float((file.metadata() or {})["head_scale"])
        names = [f"heads.{i}" for i in range(len(FACTOR_SIZES))]
        weights = [tensors[f"{name}.weight"].float() * scale for name in names]
        heads = list(zip(weights, [tensors[f"{name}.bias"].float() for name in names], strict=True))
    except (KeyError, ValueError, SafetensorError) as error:
        what = f"{path} holds no heads of this project ({error} is missing or wrong)"
        raise UserError(f"{what}: name a {SHIPPED_HEADS.name} that `finetune` wrote") from error
    sizes = WIDE_SIZES if len(heads[0][1]) == WIDE_SIZES[0] else FACTOR_SIZES
    for i, (size, (weight, bias)) in enumerate(zip(sizes, heads, strict=True)):
        if weight.shape != (size, FEATURE_SIZE) or bias.shape != (size,):
            should = f"should read {size} values from {FEATURE_SIZE} numbers"
            is_now = f"'heads.{i}' {should} and is {tuple(weight.shape)}"
            raise UserError(f"{path} is of another architecture: {is_now}")
    return heads
