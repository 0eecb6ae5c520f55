"""Nets of torchvision; `make test-zoo` has an environment with it."""

import pytest
import torch

from foreign import adopted, library, pictures, refused, require_equal, stirred


def test_a_net_of_torchvision(tmp_path):
    torchvision = library("torchvision")
    torch.manual_seed(0)
    net = stirred(torchvision.models.get_model("resnet18", num_classes=3))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    adopted(pictures(tmp_path, 32), "torchvision('resnet18', size=32)", tmp_path / "net.pth")
    shift, scale = (torch.tensor(each).view(-1, 1, 1) for each in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    require_equal(tmp_path, lambda rows: net((rows / 255 - shift) / scale))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torchvision('resnet81')", "'resnet81', which is not one; close to .*resnet"),
        ("torchvision('resnet18')", r"size of images: expected 224×224, .* found 32×32. .* or write"),
        ("torchvision('mobilenet_v3_small', size=32)", "missing: .* unexpected: "),
        ("torchvision('inception_v3', size=32)", "without a scaling of its own"),
    ],
)
def test_what_is_no_net_of_torchvision(tmp_path, spec, message):
    torchvision = library("torchvision")
    torch.save(torchvision.models.get_model("resnet18", num_classes=3).state_dict(), tmp_path / "net.pth")
    refused(pictures(tmp_path, 32), message, spec, tmp_path / "net.pth")
