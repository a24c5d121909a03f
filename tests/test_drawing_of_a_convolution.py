"""The drawing of a convolution shows what a convolution does."""

import torch

from kdcourse.drawings import convolution


def test_its_output_is_the_convolution_of_what_it_shows():
    figure = convolution.drawing()
    image, kernel, output = (
        torch.tensor([int(text.get_text().replace("−", "-")) for text in axis.texts if text.get_text() not in "∗="])
        for axis in figure.axes
    )
    image, kernel, output = image.view(6, 6), kernel.view(3, 3), output.view(6, 6)
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
    for row in range(6):
        for column in range(6):
            assert (padded[row : row + 3, column : column + 3] * kernel).sum() == output[row, column]
    (first, second) = (output[place].item() for place in convolution.PLACES)
    assert f"the output is {first}" in " ".join(convolution.WORDS.split()), "the words are about these numbers"
    assert f"the output is {second}" in " ".join(convolution.WORDS.split())
