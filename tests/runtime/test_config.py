"""The shipped gin files hold the published values, and a slip in one cannot pass."""

from collections.abc import Callable
from pathlib import Path

import gin
import pytest

from submission.finetuning.configuration import load_finetuning
from submission.pipeline.configuration import load_training
from submission.runtime.config import find_config
from submission.runtime.errors import UserError

TRAINING = ["private.gin", "public.gin", "stage1.gin", "dry_run.gin"]

# arXiv 2002.12356, sections 2.1 to 2.3 and appendix B; arXiv 2002.10003 (stage 1).
PUBLISHED = {
    "private.gin": {
        "VAE.latents": 18, "Encoder.widths": (4096,), "Decoder.widths": (4096,) * 4,
        "train_vae.epochs": 120, "beta_at_epoch.beta_start": 0.005,
        "beta_at_epoch.beta_end": 0.4, "beta_at_epoch.t_start": 10, "beta_at_epoch.t_end": 79,
        "Encoder.init": "orthogonal", "Decoder.init": "orthogonal", "train_vae.optimizer": "radam",
        "train_vae.learning_rate": 1e-3, "train_vae.betas": (0.9, 0.999),
        "train_vae.batch_size": 256, "Decoder.sigmoid": True, "elbo_loss.average_over_batch": True,
        "Extractor.aggregation": "learned", "Extractor.resolution": 64,
    },
    "public.gin": {
        "VAE.latents": 16, "Encoder.widths": (1024,) * 4, "Decoder.widths": (1024,) * 4,
        "train_vae.epochs": 100, "beta_at_epoch.beta_start": 0.001,
        "beta_at_epoch.beta_end": 0.4, "beta_at_epoch.t_start": 10, "beta_at_epoch.t_end": 49,
        "Encoder.init": "orthogonal", "Decoder.init": "orthogonal", "train_vae.optimizer": "radam",
        "train_vae.learning_rate": 1e-3, "train_vae.betas": (0.9, 0.999),
        "train_vae.batch_size": 256, "Decoder.sigmoid": True, "elbo_loss.average_over_batch": True,
        "Extractor.aggregation": "learned", "Extractor.resolution": 64,
    },
    "stage1.gin": {
        "VAE.latents": 18, "Encoder.widths": (256, 128, 64), "Decoder.widths": (64, 128, 256),
        "train_vae.epochs": 20, "beta_at_epoch.beta_start": 0.0001,
        "beta_at_epoch.beta_end": 0.12, "beta_at_epoch.t_start": 1, "beta_at_epoch.t_end": 19,
        "Encoder.init": "pytorch", "Decoder.init": "pytorch", "train_vae.optimizer": "adam",
        "train_vae.learning_rate": 1e-3, "train_vae.betas": (0.5, 0.999),
        "train_vae.batch_size": 256, "Decoder.sigmoid": False,
        "elbo_loss.average_over_batch": False, "Extractor.aggregation": "rmac",
        "Extractor.resolution": 224,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_values_are_the_published_ones(name: str) -> None:
    load_training(Path(name))
    bound = {key: gin.query_parameter(key) for key in PUBLISHED[name]}
    assert bound == PUBLISHED[name]


@pytest.mark.parametrize("name", TRAINING)
def test_each_file_ends_in_the_same_parameters(name: str) -> None:
    """Those of the file itself, or of the one that it begins with."""

    def bound(name: str) -> list[str]:
        load_training(Path(name))
        lines = [line.partition(" = ")[0] for line in gin.config_str().splitlines()]
        return [line for line in lines if line and not line.startswith("#")]

    assert bound(name) == bound("public.gin")


def test_a_file_that_begins_with_a_shipped_one_changes_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.gin"
    path.write_text('# Mine.\ninclude "dry_run.gin"\nVAE.latents = 5\n')
    load_training(path)
    mine = gin.config_str()
    load_training(Path("dry_run.gin"), ["VAE.latents=5"])
    assert mine == gin.config_str()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("include '../configs/public.gin'", "public.gin' is not taken"),
        ("include 'publik.gin'", "'publik.gin' is not taken"),
        ("VAE.latents = 5\ninclude 'public.gin'", "include only as the first line"),
        ("include 'public.gin'\ninclude 'private.gin'", "include only as the first line"),
        ("include 'public.gin'\nVAE.latents = 5\nVAE.latents = 6", ":3: VAE.latents is bound"),
        ("include 'finetune.gin'", r"finetune.gin:\d+: \w+\.\w+ has no part in this command"),
    ],
)
def test_other_includes_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.gin"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_training(path)


@pytest.mark.parametrize(
    ("load", "file", "binding", "said"),
    [
        (load_finetuning, "finetune.gin", "finetune.half_size_epochs=0", "was removed"),
        (load_finetuning, "finetune.gin", "start_network.maps=(1,)", "was removed"),
        (load_training, "refined.gin", "train_groups.heaps=6", "is called train_groups.clusters"),
    ],
)
def test_a_parameter_of_an_earlier_version_is_refused_with_what_became_of_it(
    load: Callable[[Path, list[str]], None], file: str, binding: str, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        load(Path(file), [binding])


@pytest.mark.parametrize("name", ["refined.gin", "dry_run_refined.gin"])
def test_refined_binds_the_same_and_the_groups(name: str) -> None:
    load_training(Path("public.gin"))
    public = set(gin.config._CONFIG)
    load_training(Path(name))
    assert set(gin.config._CONFIG) - public == {("", "submission.latents.groups.train_groups")}
    assert public <= set(gin.config._CONFIG)


def test_a_readout_binds_no_vae_and_a_vae_beside_it_is_refused() -> None:
    load_training(Path("readout.gin"))
    bound = {name.rpartition(".")[2] for _, name in gin.config._CONFIG}
    assert bound == {"Extractor", "extract_features", "read_out"}
    with pytest.raises(UserError, match="train_vae is bound beside read_out, which trains nothing"):
        load_training(Path("readout.gin"), ["train_vae.epochs=3"])
    with pytest.raises(UserError, match=r"read_out.absent is 2, it must be a number in 0\.\.1"):
        load_training(Path("readout.gin"), ["read_out.absent=2"])


def test_a_configuration_of_features_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.gin"
    lines = find_config(Path("readout.gin")).read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("read_out")))
    with pytest.raises(UserError, match=r"VAE.latents has no value: bind it"):
        load_training(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Encoder.init = 'orthogonal'\nEncoder.init = 'pytorch'", "bound a second time"),
        ("Encoder.init = 'x'\nsubmission.latents.vae.Encoder.init = 'y'", "bound a second time"),
        ("Enkoder.init = 'orthogonal'", "Enkoder"),
        ("Encoder.initial = 'orthogonal'", "initial"),
        ("Encoder.size_in = 3", "Encoder has widths, init"),
        ("Encoder.init 'orthogonal'", "Expected '='"),
        ("Encoder.init = orthogonal", "mine.gin: "),
    ],
)
def test_a_slip_in_a_file_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.gin"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load_training(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_bindings_on_the_command_line_override_the_file() -> None:
    load_training(Path("public.gin"), ["VAE.latents=7", "Encoder.widths=(5, 6)"])
    assert gin.query_parameter("VAE.latents") == 7
    assert gin.query_parameter("Encoder.widths") == (5, 6)
    for binding in ("VAE.latent=7", "nonsense", "VAE.latents="):
        with pytest.raises(UserError, match="binding"):
            load_training(Path("public.gin"), [binding])


def test_an_unknown_file_is_answered_with_the_shipped_names() -> None:
    with pytest.raises(UserError, match=r"private\.gin, public\.gin"):
        load_training(Path("publik.gin"))
    load_training(Path("public"))
    assert gin.query_parameter("VAE.latents") == 16


@pytest.mark.parametrize("named", ["mine/refined.gin", "./refined.gin", "mine/refined"])
def test_a_slip_in_a_path_does_not_lead_to_the_shipped_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """pathlib takes "./refined.gin" for the bare name, as a shell's user may mean it."""
    monkeypatch.chdir(tmp_path)
    if named.startswith("mine"):
        with pytest.raises(UserError, match=f"no configuration {named}"):
            load_training(Path(named))
    else:
        load_training(Path(named))


@pytest.mark.parametrize(
    ("file", "binding", "said"),
    [("public.gin", "VAE.latents=1", "VAE.latents is 1, it must be at least 2"),
     ("refined.gin", "VAE.latents=2", "it must be 1 beside train_groups")],
)  # fmt: skip
def test_a_number_of_latents_that_cannot_be_scored_is_refused_at_once(
    file: str, binding: str, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        load_training(Path(file), [binding])


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    """As some editors on Windows write it."""
    path = tmp_path / "mine.gin"
    path.write_text('include "public.gin"\nVAE.latents = 5\n', encoding="utf-8-sig")
    load_training(path)
    assert gin.query_parameter("VAE.latents") == 5
