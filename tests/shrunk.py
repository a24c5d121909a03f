"""What the tests of kdlib.shrinking share: images, one small net per builder."""

import copy

import pytest
import torch
from conftest import make_images

from kdlib import models

IMAGES = make_images(samples=200)
NETS = {
    "mlp": models.mlp(12, features=3 * 144, classes=3),
    "lenet": models.lenet(channels=3, image_size=12, classes=3),
    "convnet": models.convnet(width=4, classes=3),
    "resnet": models.resnet(width=4, classes=3),
    "resnet9": models.resnet9(width=4, classes=3),
    "mirrored_resnet9": models.mirrored_resnet9(width=4, classes=3),
    "mobilenet": models.mobilenet(width=4, classes=3),
}
EVERY = pytest.mark.parametrize("name", NETS)


def used(name):
    """A net whose batch normalisation has seen images, with its weights laid out as fit leaves them."""
    net = copy.deepcopy(NETS[name])
    for _ in range(3):
        net.train()(IMAGES.normalise(IMAGES.train.inputs[:64]) * 3 + 1)
    return net.eval().to(memory_format=torch.channels_last)


def answers(net, data=IMAGES):
    return models.predict(net, data.validation.inputs, data.normalise)
