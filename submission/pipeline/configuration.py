"""What a configuration of the server's job binds: features, VAE, or groups of VAEs."""

from collections.abc import Sequence
from pathlib import Path

import gin

from submission.features.extraction import extract_features
from submission.features.extractor import FEATURE_SIZE, Extractor
from submission.latents.groups import refuse_sizes, train_groups
from submission.latents.training import beta_at_epoch, train_vae
from submission.latents.vae import VAE, Decoder, Encoder, elbo_loss
from submission.runtime.config import asks_for, load_config
from submission.runtime.errors import UserError

_FUNCTIONS = (
    *(Extractor, extract_features),
    *(VAE, Encoder, Decoder, elbo_loss, beta_at_epoch, train_vae),
)


def load_training(file: Path, bindings: Sequence[str] = ()) -> None:
    """Makes a gin file and the command line's bindings the configuration of a training.

    Raises UserError as load_config does, or for sizes that do not fit each other.
    """
    load_config(file, bindings, _FUNCTIONS, [train_groups])
    latents = gin.query_parameter("VAE.latents")
    if asks_for(train_groups):
        names = ("components", "groups", "sample")
        components, groups, sample = (gin.query_parameter(f"train_groups.{n}") for n in names)
        refuse_sizes(components, groups, sample, FEATURE_SIZE)
        if latents != 1:
            raise UserError(
                f"VAE.latents is {latents}, it must be 1 beside train_groups, which trains one "
                "latent for each group: change train_groups.groups"
            )
    elif latents < 2:
        raise UserError(f"VAE.latents is {latents}, it must be at least 2: the metrics compare two")
