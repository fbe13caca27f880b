"""Published networks against published figures; nothing here allocates a weight."""

import math

import pytest

from imgconv.errors import ModelError
from imgconv.nn.models import get_network, network_names

# Parameters and multiply-adds (in units of 10⁹) as torchvision's model tables print them; the
# paper forms from LeCun et al. 1998 (60,000 trainable) and Caffe's model zoo.
PUBLISHED = {
    "lenet5": (61_706, 0.0),
    "lenet5:form=paper": (60_000, 0.0),
    "alexnet": (61_100_840, 0.71),
    "alexnet:form=paper": (60_965_224, 0.72),
    "vgg11": (132_863_336, 7.61),
    "vgg13": (133_047_848, 11.31),
    "vgg16": (138_357_544, 15.47),
    "vgg19": (143_667_240, 19.63),
    "vgg11_bn": (132_868_840, 7.61),
    "vgg13_bn": (133_053_736, 11.31),
    "vgg16_bn": (138_365_992, 15.47),
    "vgg19_bn": (143_678_248, 19.63),
    "googlenet": (6_998_552, 1.58),
    "googlenet:aux=true": (13_378_280, 1.59),
    "googlenet:form=torchvision": (6_624_904, 1.5),
    "googlenet:form=torchvision,aux=true": (13_004_888, 1.51),
    "resnet18": (11_689_512, 1.81),
    "resnet34": (21_797_672, 3.66),
    "resnet50": (25_557_032, 4.09),
    "resnet50:form=v1": (25_557_032, 3.86),
    "resnet101": (44_549_160, 7.8),
    "resnet152": (60_192_808, 11.51),
    "efficientnet_b0": (5_288_548, 0.39),
    "efficientnet_b1": (7_794_184, 0.69),
    "efficientnet_b2": (9_109_994, 1.09),
    "efficientnet_b3": (12_233_232, 1.83),
    "efficientnet_b4": (19_341_616, 4.39),
    "efficientnet_b5": (30_389_784, 10.27),
    "efficientnet_b6": (43_040_704, 19.07),
    "efficientnet_b7": (66_347_960, 37.75),
}

# Shapes that the papers' tables and figures state.
SHAPES = {
    "lenet5": {"c1": (6, 28, 28), "s2": (6, 14, 14), "c3": (16, 10, 10), "s4": (16, 5, 5),
               "c5": (120, 1, 1), "f6": (84,)},
    "alexnet:form=paper": {"conv1": (96, 55, 55), "pool1": (96, 27, 27), "conv2": (256, 27, 27),
                           "pool2": (256, 13, 13), "conv5": (256, 13, 13), "pool5": (256, 6, 6)},
    "alexnet": {"features.0": (64, 55, 55), "features.12": (256, 6, 6), "flatten": (9216,)},
    "vgg16": {"features.2": (64, 224, 224), "features.30": (512, 7, 7), "flatten": (25088,)},
    "googlenet": {"conv1.relu": (64, 112, 112), "maxpool1": (64, 56, 56),
                  "maxpool2": (192, 28, 28), "inception3a.cat": (256, 28, 28),
                  "inception3b.cat": (480, 28, 28), "inception4a.cat": (512, 14, 14),
                  "inception4e.cat": (832, 14, 14), "inception5b.cat": (1024, 7, 7)},
    "resnet50": {"conv1": (64, 112, 112), "layer1.2.relu_2": (256, 56, 56),
                 "layer2.3.relu_2": (512, 28, 28), "layer3.5.relu_2": (1024, 14, 14),
                 "layer4.2.relu_2": (2048, 7, 7), "avgpool": (2048, 1, 1)},
    "efficientnet_b0": {"features.0.2": (32, 112, 112), "features.1.0.block.2.1": (16, 112, 112),
                        "features.3.1.add": (40, 28, 28), "features.8.2": (1280, 7, 7)},
}  # fmt: skip


def test_every_network_has_a_published_figure():
    assert set(network_names()) <= set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_multiply_adds_are_the_published_ones(name):
    graph = get_network(name).graph
    count = sum(math.prod(p.shape) for p in graph.parameters().values() if not p.buffer)
    shapes = graph.shapes()
    work = sum(
        node.layer.multiply_adds(*(shapes[value] for value in node.inputs)) for node in graph.nodes
    )
    assert (count, round(work / 1e9, 2)) == PUBLISHED[name]


@pytest.mark.parametrize("name", SHAPES)
def test_maps_have_the_sizes_that_the_paper_states(name):
    shapes = get_network(name).graph.shapes()
    for value, expected in SHAPES[name].items():
        assert shapes[value] == (1, *expected), value


def test_parameter_names_are_torchvisions():
    expected = {
        "alexnet": ["features.0.weight", "classifier.6.bias"],
        "vgg16_bn": ["features.1.running_mean", "features.40.weight"],
        "googlenet:form=torchvision,aux=true": ["conv1.conv.weight", "conv1.bn.running_var",
                                                "inception3a.branch3.1.conv.weight",
                                                "aux1.conv.conv.weight", "aux2.fc2.bias"],
        "resnet50": ["conv1.weight", "layer1.0.downsample.0.weight", "layer4.2.bn3.bias",
                     "fc.weight"],
        "efficientnet_b0": ["features.0.0.weight", "features.1.0.block.1.fc1.bias",
                            "features.2.0.block.3.1.running_var", "features.8.1.weight",
                            "classifier.1.weight"],
    }  # fmt: skip
    for name, wanted in expected.items():
        assert set(wanted) <= set(get_network(name).graph.parameters()), name


def test_v1_has_its_stride_in_the_first_convolution_of_a_block():
    for form, first, second in (("v1", 2, 1), ("v1.5", 1, 2)):
        producers = get_network(f"resnet50:form={form}").graph.producers
        assert producers["layer2.0.conv1"].layer.stride == first
        assert producers["layer2.0.conv2"].layer.stride == second


def test_the_five_by_five_branch_is_the_papers_only_in_the_papers_form():
    for form, size in (("paper", 5), ("torchvision", 3)):
        parameters = get_network(f"googlenet:form={form}").graph.parameters()
        assert parameters["inception3a.branch3.1.conv.weight"].shape == (32, 16, size, size)


@pytest.mark.parametrize("name", ["vgg16", "googlenet:form=torchvision", "lenet5"])
def test_the_number_of_classes_changes_the_last_layer_alone(name):
    colon = "," if ":" in name else ":"
    usual, small = (
        get_network(f"{name}{colon}classes={count}").graph.parameters() for count in (1000, 7)
    )
    differing = [key for key in usual if usual[key] != small[key]]
    assert len(differing) == 2
    assert all(small[key].shape[0] == 7 for key in differing)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet51", "did you mean resnet50"),
        ("resnet50:form=v2", "form=v2, expected v1.5 or v1"),
        ("resnet50:size=3", "'size=3', expected form=, classes="),
        ("vgg16:classes=0", "classes=0, expected a number"),
        ("googlenet:aux=maybe", "aux=maybe, expected true or false"),
    ],
)
def test_a_wrong_name_or_option_says_what_was_expected(text, message):
    with pytest.raises(ModelError, match=message):
        get_network(text)
