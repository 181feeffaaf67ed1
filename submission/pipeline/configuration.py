"""What a configuration of the server's job binds: features, and then a VAE, groups of VAEs, or the
readout of the extractor's heads."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gin

from submission.features.extraction import extract_features
from submission.features.extractor import FEATURE_SIZE, Extractor
from submission.finetuning.weights import SHIPPED_HEADS
from submission.latents.groups import refuse_sizes, train_groups
from submission.latents.readout import read_out
from submission.latents.training import beta_at_epoch, train_vae
from submission.latents.vae import VAE, Decoder, Encoder, elbo_loss
from submission.runtime.config import asks_for, load_config, refuse_unbound
from submission.runtime.errors import UserError

_FEATURES: tuple[Callable[..., Any], ...] = (Extractor, extract_features)
_VAE: tuple[Callable[..., Any], ...] = (VAE, Encoder, Decoder, elbo_loss, beta_at_epoch, train_vae)


def load_training(file: Path, bindings: Sequence[str] = (), images: int | None = None) -> None:
    """Makes a gin file and the command line's bindings the configuration of a training.

    Raises UserError as load_config does, for sizes that do not fit each other or the number of
    images, if that is known, and for a VAE beside a readout, which trains none.
    """
    load_config(file, bindings, _FEATURES, [*_VAE, train_groups, read_out])
    if asks_for(read_out):
        for function in filter(asks_for, (*_VAE, train_groups)):
            what = f"{function.__name__} is bound beside read_out, which trains nothing"
            raise UserError(f"{what}: leave its bindings out")
        refuse_unbound([read_out])
        return
    refuse_unbound([*_VAE, *filter(asks_for, [train_groups])])
    latents = gin.query_parameter("VAE.latents")
    if asks_for(train_groups):
        names = ("components", "groups", "sample")
        components, groups, sample = (gin.query_parameter(f"train_groups.{n}") for n in names)
        refuse_sizes(components, groups, sample, FEATURE_SIZE, images)
        if latents != 1:
            raise UserError(
                f"VAE.latents is {latents}, it must be 1 beside train_groups, which trains one "
                "latent for each group: change train_groups.groups"
            )
    elif latents < 2:
        raise UserError(f"VAE.latents is {latents}, it must be at least 2: the metrics compare two")


def heads_of(weights: Path) -> Path | None:
    """The heads that the configuration in force reads, the file of this name beside the extractor's
    weights, as `finetune` writes both; None if it reads none. UserError if there is no such
    file."""
    if not asks_for(read_out):
        return None
    heads = weights.with_name(SHIPPED_HEADS.name)
    if not heads.is_file():
        what = f"there is no {heads}, and read_out reads the heads that belong to the weights"
        raise UserError(f"{what}: put it there (`finetune` writes both), or take refined.gin")
    return heads
