"""One measured route, alone in a fresh process: `python -m benchmarks.routes ROUTE SETTINGS`.

`..._ours` is what this project's commands call; `..._stock` is the usual way to the same result.
Prints one line of JSON. Only `seconds` is compared: data, model and libraries are ready when its
clock starts. Imports are inside the functions, so that a route's memory is what that route needs.
"""

import json
import os
import sys
import tempfile
import time
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from submission.runtime.usage import peak_mib

Settings = dict[str, Any]


def load_ours(settings: Settings) -> Settings:
    """Opened, its checksums compared, and read once from end to end."""
    from submission.data.dataset import open_dataset, verify

    started = time.perf_counter()
    dataset = open_dataset(Path(settings["data"]), settings["dataset"])
    verify(dataset, progress=False)
    images = sum(len(batch) for batch in dataset.batches(64))
    return {"seconds": time.perf_counter() - started, "images": images}


def load_stock(settings: Settings) -> Settings:
    """disentanglement_lib's own class: the whole array in memory."""
    mpi3d = _library_mpi3d(settings)
    started = time.perf_counter()
    images = mpi3d(settings["dataset"]).images
    return {"seconds": time.perf_counter() - started, "images": len(images)}


def features_ours(settings: Settings) -> Settings:
    """features.extract_features: folded, channels_last, batches sliced from the file."""
    import numpy as np
    import torch

    from submission.data.dataset import open_dataset
    from submission.features.extraction import extract_features, to_float
    from submission.features.extractor import channels_last
    from submission.features.weights import SHIPPED_WEIGHTS, load_extractor

    _load_config(settings)
    network = channels_last(load_extractor(SHIPPED_WEIGHTS))
    dataset = open_dataset(Path(settings["data"]), settings["dataset"])
    dataset = replace(dataset, num_images=settings["images"])
    cpu = torch.device("cpu")
    with torch.inference_mode():
        network(to_float(dataset.first(64), cpu).contiguous(memory_format=torch.channels_last))
    with tempfile.TemporaryDirectory(dir=settings["work"]) as folder:
        path = Path(folder) / "features.npy"
        started = time.perf_counter()
        path = extract_features(dataset, network, path, cpu, progress=False)
        seconds = time.perf_counter() - started
        features = np.load(path, allow_pickle=False)
    return {"seconds": seconds, "checksum": float(features.sum(dtype=np.float64))}


def features_stock(settings: Settings) -> Settings:
    """The network as it was trained (batch norm its own layer), eager, NCHW, batches of 64 from a
    DataLoader that turns each image into a float tensor, as torchvision's ToTensor does."""
    import numpy as np
    import torch
    from torch.utils.data import DataLoader, Dataset

    from submission.features.extractor import Extractor
    from submission.features.weights import SHIPPED_WEIGHTS, read_weights

    _load_config(settings)
    network = Extractor().eval()
    weights = read_weights(SHIPPED_WEIGHTS)
    state = network.state_dict()
    for key in state:
        if not key.endswith("num_batches_tracked"):
            state[key] = weights[key.removeprefix("aggregation.")]
    network.load_state_dict(state)
    images = _library_mpi3d(settings)(settings["dataset"]).images[: settings["images"]]

    class Images(Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, i: int) -> torch.Tensor:
            return torch.from_numpy(images[i]).permute(2, 0, 1).contiguous().float().div(255)

    loader = DataLoader(Images(), batch_size=64)
    with torch.no_grad(), tempfile.TemporaryDirectory(dir=settings["work"]) as folder:
        network(next(iter(loader)))
        started = time.perf_counter()
        features = torch.cat([network(batch) for batch in loader]).numpy()
        np.save(Path(folder) / "features.npy", features)
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "checksum": float(features.sum(dtype=np.float64))}


def vae_ours(settings: Settings) -> Settings:
    """vae.train_vae on a mapped feature file; the second epoch's steps."""
    import csv

    import torch

    from submission.features.extraction import open_features
    from submission.latents.training import train_vae

    _load_config(settings, "train_vae.epochs=2")
    features = open_features(Path(settings["rows"]), torch.device("cpu"))
    with tempfile.TemporaryDirectory(dir=settings["work"]) as folder:
        train_vae(features, Path(folder), "benchmark", progress=False)
        with open(Path(folder) / "losses.csv") as file:
            second = list(csv.DictReader(file))[1]
    return {"seconds": float(second["seconds"]), "loss": float(second["loss"])}


def vae_stock(settings: Settings) -> Settings:
    """The same network, loss and optimiser; rows from a shuffling DataLoader that stacks them one
    by one, the optimiser as PyTorch makes it, the loss read at each step; the second epoch."""
    import gin
    import numpy as np
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from submission.features.extractor import FEATURE_SIZE
    from submission.latents.training import beta_at_epoch
    from submission.latents.vae import VAE, elbo_loss

    _load_config(settings)
    bound = {name: gin.query_parameter(f"train_vae.{name}") for name in ("learning_rate", "betas")}
    features = torch.from_numpy(np.load(settings["rows"], allow_pickle=False))
    batch_size = gin.query_parameter("train_vae.batch_size")
    loader = DataLoader(TensorDataset(features), batch_size=batch_size, shuffle=True)
    torch.manual_seed(0)
    vae = VAE(FEATURE_SIZE).train()
    optimizer = torch.optim.RAdam(vae.parameters(), bound["learning_rate"], bound["betas"])
    for t in range(2):
        started, total = time.perf_counter(), 0.0
        for (x,) in loader:
            mu_hat, mu, log_sigma2 = vae(x, torch.randn(len(x), vae.encoder.mean.out_features))
            loss, _, _ = elbo_loss(x, mu_hat, mu, log_sigma2, beta_at_epoch(t))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "loss": total / len(loader)}


def metrics_ours(settings: Settings) -> Settings:
    """The metrics from codes computed beforehand and kept."""
    from submission.metrics.compute import score
    from submission.metrics.grids import GridRepresentations
    from submission.metrics.settings import DCI_FITS

    _bind_counts(settings)
    sizes, codes = settings["factor_sizes"], _codes(settings)
    started = time.perf_counter()
    data = GridRepresentations(codes, sizes)
    options = {"workers": settings["workers"], "dci_fit": settings.get("dci_fit", DCI_FITS[0])}
    result = score(data, metrics=settings["metrics"], **options)
    return {"seconds": time.perf_counter() - started, "scores": result["headline"]}


def metrics_stock(settings: Settings) -> Settings:
    """The scorer's own route: the model called on images for every metric, DCI on one core (its
    fits seeded as in ours: the library leaves them unseeded, and two runs of it differ)."""
    import numpy as np

    from submission.latents.export import load
    from submission.metrics.compute import score
    from submission.metrics.grids import GridImages, torchscript_function

    _bind_counts(settings)
    images = _library_mpi3d(settings)(settings["dataset"]).images
    through_model = torchscript_function(load(Path(settings["model"])))
    seen = 0

    def represent(observations: Any) -> Any:
        nonlocal seen
        seen += len(observations)
        return through_model(observations)

    represent(np.zeros((16, 64, 64, 3)))
    seen = 0
    started = time.perf_counter()
    data = GridImages(images, settings["factor_sizes"])
    result = score(data, represent, settings["metrics"], workers=1, dci_fit="scikit-learn")
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "scores": result["headline"], "images": seen}


def rates(settings: Settings) -> Settings:
    """The machine's, as floor.rates has them."""
    from benchmarks import floor

    return dict(floor.rates())


def _load_config(settings: Settings, *bindings: str) -> None:
    from submission.pipeline.configuration import load_training

    load_training(Path("public.gin"), [*settings.get("bindings", ()), *bindings])


def _bind_counts(settings: Settings) -> None:
    import gin

    from submission.metrics.settings import load_settings

    load_settings()
    with gin.unlock_config():
        for name, value in settings["counts"].items():
            gin.bind_parameter(name, value)


def _codes(settings: Settings) -> Any:
    """Those of the model; or, where `latents` is set, the factors mixed into so many latents."""
    import numpy as np

    from submission.metrics.grids import ideal_code

    if "latents" not in settings:
        return np.load(settings["codes"], allow_pickle=False)
    ideal = ideal_code(settings["factor_sizes"])
    random = np.random.default_rng(0)
    mixed = ideal @ random.normal(size=(ideal.shape[1], settings["latents"]))
    return mixed + random.normal(size=mixed.shape)


def _library_mpi3d(settings: Settings) -> Any:
    """disentanglement_lib's MPI3D class. Of TensorFlow it uses the opening of a file alone, which
    the few lines here stand in for."""
    import importlib
    import io

    class GFile(io.FileIO):
        def __exit__(self, *error: object) -> None:
            pass  # TensorFlow's may still be read from; the class relies on it

    names = ("tensorflow", "tensorflow.compat", "tensorflow.compat.v1")
    sys.modules.update({name: types.ModuleType(name) for name in names})
    gfile = types.SimpleNamespace(exists=os.path.exists, GFile=GFile)
    vars(sys.modules["tensorflow.compat.v1"])["io"] = types.SimpleNamespace(gfile=gfile)
    module = importlib.import_module("disentanglement_lib.data.ground_truth.mpi3d")
    # Others ask by `import tensorflow` whether there is one.
    for name in names:
        del sys.modules[name]
    os.environ["DISENTANGLEMENT_LIB_DATA"] = settings["data"]
    return module.MPI3D


ROUTES: dict[str, Callable[[Settings], Settings]] = {
    route.__name__: route
    for route in (
        load_ours,
        load_stock,
        features_ours,
        features_stock,
        vae_ours,
        vae_stock,
        metrics_ours,
        metrics_stock,
        rates,
    )
}


if __name__ == "__main__":
    measured = ROUTES[sys.argv[1]](json.loads(sys.argv[2]))
    print(json.dumps(measured | {"peak_mib": peak_mib()}))
