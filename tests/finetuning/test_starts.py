"""Starting weights against the networks they come from, and files written and read again."""

import copy
import math
from pathlib import Path

import pytest
import torch
from finetuning_runs import paper, shipped  # noqa: F401 (fixtures)
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import vgg16_bn

from submission.features.extractor import Aggregation
from submission.features.weights import SHIPPED_WEIGHTS, copy_weights, load_extractor
from submission.finetuning.configuration import load_finetuning
from submission.finetuning.network import Network
from submission.finetuning.starts import Start, craft_weights, start_network
from submission.finetuning.weights import read_heads, write_weights
from submission.runtime.errors import UserError


def test_the_network_starts_he_uniform(paper: None) -> None:
    """Aggregation and heads, as the paper says: uniform within sqrt(6 / fan_in)."""
    network = start_network(Start("scratch"), seed=3)
    assert isinstance(network.extractor.aggregation, Aggregation)
    dropouts = [m.p for m in network.modules() if isinstance(m, nn.Dropout2d)]
    assert dropouts == [0.1] * 3
    weights = [network.extractor.aggregation.aggregator[i].weight for i in (1, 5, 9)]
    weights += [head.weight for head in network.heads]
    for weight in weights:
        assert isinstance(weight, Tensor)
        bound = math.sqrt(6 / weight[0].numel())
        assert 0.98 * bound < weight.abs().max() <= bound


def test_craft_filters_compute_what_vgg16_computes(tmp_path: Path, paper: None) -> None:
    """The CRAFT file is VGG16-BN to its second last convolution under names of its own. An image
    comes out of VGG16's blocks as it does out of ours, the identities passing it on."""
    torch.manual_seed(0)
    theirs = vgg16_bn(weights=None).features.eval()
    for layer in theirs:
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                assert values is not None
                nn.init.uniform_(values, 0.5, 1.5)
            nn.init.normal_(layer.bias)
    slices = ((1, 12), (2, 19), (3, 29), (4, 39))
    state = {}
    for key, value in theirs.state_dict().items():
        index = int(key.split(".")[0])
        if index < 39:
            number = next(number for number, end in slices if index < end)
            state[f"module.basenet.slice{number}.{key}"] = value
    state["module.basenet.slice5.1.weight"] = torch.zeros(1024, 512, 3, 3)
    torch.save(state, tmp_path / "craft_mlt_25k.pth")
    network = start_network(Start("craft", tmp_path / "craft_mlt_25k.pth"), seed=0)
    ours = network.extractor.features.eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        # VGG16's blocks end at 6, 13, 23, 33; its second convolution of block 5 at 39.
        for end16, end19 in ((6, 6), (13, 13), (23, 26), (33, 39), (40, 46), (40, 52)):
            expected, got = theirs[:end16](image), ours[:end19](image)
            assert expected.std() > 0
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.max()))


def test_a_local_imagenet_file_gives_the_backbone_only(tmp_path: Path, paper: None) -> None:
    tensors = {key: value for key, value in load_file(SHIPPED_WEIGHTS).items() if "features" in key}
    torch.save(tensors | {"classifier.0.bias": torch.zeros(3)}, tmp_path / "vgg19_bn-c79401a0.pth")
    network = start_network(Start(str(tmp_path / "vgg19_bn-c79401a0.pth")), seed=5)
    for key, value in network.extractor.features.state_dict().items():
        if "num_batches" not in key:
            assert torch.equal(value, tensors[f"features.{key}"].float())
    assert isinstance(network.extractor.aggregation, Aggregation)
    first = network.extractor.aggregation.aggregator[1].weight
    assert isinstance(first, Tensor)
    assert first.abs().max() <= math.sqrt(6 / 512)  # new: the shipped file's go beyond
    assert load_file(SHIPPED_WEIGHTS)["aggregator.1.weight"].abs().max() > math.sqrt(6 / 512)


def test_written_files_hold_the_network(tmp_path: Path, shipped: Network) -> None:
    """Read by safetensors, by `load_extractor` and as a start, they give the same logits."""
    load_finetuning(Path("finetune.gin"), ["Network.head_scale=4.0", "Network.bfloat16=False"])
    network = copy.deepcopy(shipped).eval()
    network.head_scale = 4.0
    write_weights(network, tmp_path, {"start": "here"})
    weights, heads = tmp_path / "vgg19_bn_agg.safetensors", tmp_path / "heads.safetensors"
    assert sorted(p.name for p in tmp_path.iterdir()) == [heads.name, weights.name]
    assert {t.dtype for t in load_file(weights).values()} == {torch.float16}
    assert weights.stat().st_size < 58 * 2**20
    with safe_open(weights, "pt") as file:
        assert file.metadata() == {"start": "here"}
    images = torch.rand(3, 3, 64, 64)
    restarted = start_network(Start(str(weights), heads=heads), seed=9).eval()
    with torch.inference_mode():
        expected = network(images)
        vectors, again = load_extractor(weights)(images), restarted(images)
        for i, (weight, bias) in enumerate(read_heads(heads)):
            torch.testing.assert_close(vectors @ weight.T + bias, expected[i], rtol=0, atol=1e-2)
            torch.testing.assert_close(again[i], expected[i], rtol=0, atol=1e-2)


def test_wrong_starts_are_refused(tmp_path: Path, shipped: Network) -> None:
    load_finetuning(Path("finetune.gin"))
    with pytest.raises(UserError, match="--from craft needs --craft-file"):
        start_network(Start("craft"), seed=0)
    with pytest.raises(UserError, match="no weight file"):
        craft_weights(tmp_path / "none.pth")
    torch.save({"module.basenet.slice1.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="not CRAFT's weights"):
        craft_weights(tmp_path / "x.pth")
    tensors = load_file(SHIPPED_WEIGHTS)
    tensors["aggregator.5.weight"] = torch.zeros(2048, 1024, 1, 1)
    with pytest.raises(UserError, match="another architecture: 'aggregator"):
        copy_weights(shipped.extractor, tensors, "a file", with_aggregation=True)
    del tensors["features.0.weight"]
    with pytest.raises(UserError, match=r"'features\.0\.weight' should be .* and is nothing"):
        copy_weights(shipped.extractor, tensors, "a file", with_aggregation=True)
