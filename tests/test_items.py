"""Data sets from map-style PyTorch data sets: items of every kind, class names matched, memory, random transforms."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset
from torchvision import datasets, transforms

from kdlib import Dataset
from kdlib.losses import UNLABELLED


def test_torchvisions_fake_data_of_pil_images():
    fake = datasets.FakeData(size=20, image_size=(3, 8, 6), num_classes=4)
    own = Dataset.from_torchvision(fake, datasets.FakeData(5, (3, 8, 6), 4), validation=None, classes=4)
    assert own.train.inputs.shape == (20, 3, 8, 6) and own.train.inputs.dtype == torch.uint8
    assert (own.name, len(own.test)) == ("FakeData", 5)
    for row in (0, 7):
        image, target = fake[row]
        assert np.array_equal(own.train.inputs[row].permute(1, 2, 0), np.array(image))
        assert own.train.targets[row] == int(target)


def test_what_a_transform_returns_stays_as_it_is():
    fake = datasets.FakeData(10, (3, 8, 8), 4, transform=transforms.ToTensor())
    own = Dataset.from_torchvision(fake, validation=None, name="fake")
    assert own.train.inputs.dtype == torch.float32 and own.name == "fake"
    assert torch.equal(own.train.inputs[3], fake[3][0])


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_grey_and_colour_images_become_channels_first(mode, channels):
    grey = [(Image.new(mode, (5, 4), n if mode == "L" else (n, 0, 0)), n % 2) for n in range(6)]
    own = Dataset.from_torchvision(grey, validation=None)
    assert own.train.inputs.shape == (6, channels, 4, 5) and own.train.inputs[:, 0, 0, 0].tolist() == list(range(6))
    arrays = [(np.asarray(image), target) for image, target in grey]
    assert torch.equal(Dataset.from_torchvision(arrays, validation=None).train.inputs, own.train.inputs)


def test_an_image_folder_brings_its_class_names(tmp_path):
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for repeat in range(5):
            Image.new("RGB", (6, 6), (number, repeat, 0)).save(tmp_path / name / f"{repeat}.png")
    own = Dataset.from_torchvision(datasets.ImageFolder(tmp_path), validation=0.2)
    assert (
        own.classes == ("cat", "dog") and own.name == "ImageFolder" and (len(own.train), len(own.validation)) == (8, 2)
    )
    assert torch.equal(own.train.inputs[:, 0, 0, 0].long(), own.train.targets)
    named = Dataset.from_torchvision(datasets.ImageFolder(tmp_path), classes=["a", "b", "c"])
    assert named.classes == ("a", "b", "c")


def test_each_item_is_read_once_and_a_few_once_more():
    class Counted:
        def __init__(self, length):
            self.read = [0] * length

        def __len__(self):
            return len(self.read)

        def __getitem__(self, row):
            self.read[row] += 1
            return torch.full((2,), float(row)), row % 2

    long, short = Counted(100), Counted(3)
    Dataset.from_torchvision(long)
    assert sorted(long.read) == [1] * 92 + [2] * 8 and long.read[0] == long.read[99] == 2
    Dataset.from_torchvision(short, validation=None)
    assert short.read == [2, 2, 2]


@pytest.mark.parametrize(
    ("items", "options", "error", "says"),
    [
        ([(torch.zeros(2, 3), 0), (torch.zeros(2, 4), 1)], {}, ValueError, r"sample 1 has shape \(2, 4\), sample 0"),
        ([(Image.new("L", (4, 4)), 0), (Image.new("RGB", (4, 4)), 1)], {}, ValueError, "all shapes must be equal"),
        ([(torch.zeros(2), 0), (torch.zeros(2), 5)], {"classes": 3}, ValueError, "train target 5"),
        ([(torch.zeros(2).int(), 0)] * 2, {}, TypeError, "not torch.int32"),
        ([], {}, ValueError, "N ≥ 1|no samples|empty"),
    ],
)
def test_items_that_cannot_be_used_are_refused(items, options, error, says):
    with pytest.raises(error, match=says):
        Dataset.from_torchvision(items, **options)


# --- class names ---------------------------------------------------------------------------------


def write_classes(folder, *names, each=5):
    """An image folder whose pixels are the class's position in the alphabet."""
    for name in names:
        (folder / name).mkdir(parents=True)
        for repeat in range(each):
            Image.new("RGB", (4, 4), (ord(name[0]), repeat, 0)).save(folder / name / f"{repeat}.png")
    return datasets.ImageFolder(folder)


def named(split, classes):
    """Each sample's class name as its label has it, and as its pixels have it."""
    return [classes[target] for target in split.targets], [chr(x) for x in split.inputs[:, 0, 0, 0]]


@pytest.mark.parametrize("in_test", [("a", "c", "d"), ("d",), ("b", "d"), ("a", "b", "c", "d")])
def test_classes_of_train_and_test_are_matched_by_name(tmp_path, in_test):
    """A test folder that lacks a class numbers the others differently."""
    train, test = write_classes(tmp_path / "train", "a", "b", "c", "d"), write_classes(tmp_path / "test", *in_test)
    own = Dataset.from_torchvision(train, test, validation=test)
    assert own.classes == ("a", "b", "c", "d")
    for split in (own.train, own.validation, own.test):
        labels, pixels = named(split, own.classes)
        assert labels == pixels
    renamed = Dataset.from_torchvision(train, test, classes=list("wxyz"))
    assert torch.equal(renamed.test.targets, own.test.targets) and renamed.classes == ("w", "x", "y", "z")


def test_classes_in_another_order_are_matched_and_unlabelled_stays_so():
    train, test = [[(torch.zeros(2), number) for number in (0, 1, 2, UNLABELLED)] for _ in range(2)]
    train, test = Named(train, ("cat", "dog", "eel")), Named(test, ("eel", "cat", "dog"))
    own = Dataset.from_torchvision(train, test, validation=None)
    assert own.test.targets.tolist() == [2, 0, 1, UNLABELLED] and own.train.targets.tolist() == [0, 1, 2, UNLABELLED]


class Named(list):
    def __init__(self, items, classes):
        super().__init__(items)
        self.classes = classes


def test_a_class_that_training_does_not_know_is_refused(tmp_path):
    train, test = write_classes(tmp_path / "train", "a", "b"), write_classes(tmp_path / "test", "a", "c")
    with pytest.raises(ValueError, match="test has classes that the training data lack: c. Training has a, b"):
        Dataset.from_torchvision(train, test)
    with pytest.raises(ValueError, match="validation has classes that the training data lack: c"):
        Dataset.from_torchvision(train, validation=test)
    with pytest.raises(ValueError, match="test targets go up to 3, but the data set names 2 classes"):
        Dataset.from_torchvision(train, Named([(torch.zeros(3, 4, 4), 3)], ("b", "a")))


def test_subsets_and_joined_data_sets_keep_class_names_and_files(tmp_path):
    folder = write_classes(tmp_path / "one", "a", "b", "c")
    part = Subset(Subset(folder, range(12)), [11, 0, 5])
    own = Dataset.from_torchvision(part, Subset(folder, [4]), validation=None)
    assert own.classes == ("a", "b", "c") and own.name == "ImageFolder"
    assert named(own.train, own.classes) == (["c", "a", "b"],) * 2 and len(own.test) == 1
    both = Dataset.from_torchvision(ConcatDataset([part, folder]), validation=None)
    assert both.classes == own.classes and len(both.train) == 18
    other = write_classes(tmp_path / "two", "b", "c")
    with pytest.raises(ValueError, match="joined data sets have different classes"):
        Dataset.from_torchvision(ConcatDataset([folder, other]))


# --- targets -------------------------------------------------------------------------------------


def test_floating_targets_are_regression_and_never_class_numbers():
    def items(*targets):
        return [(torch.zeros(2), target) for target in targets]

    for targets in ((0.7, 4.52, 0), (np.float32(0.7), np.float64(4.52), 0), (torch.tensor(0.7), torch.tensor(4.52), 0)):
        own = Dataset.from_torchvision(items(*targets), validation=None)
        assert own.task == "regression" and own.train.targets.tolist() == pytest.approx([0.7, 4.52, 0])
        with pytest.raises(TypeError, match=r"train targets are floating \(0.7 for sample 0\), but .* class names"):
            Dataset.from_torchvision(Named(items(*targets), ("a", "b", "c", "d", "e")))
        with pytest.raises(TypeError, match="there are class names"):
            Dataset.from_torchvision(items(*targets), classes=5)
        with pytest.raises(TypeError, match="test targets are floating"):
            Dataset.from_torchvision(Named(items(0, 1), ("a", "b")), items(*targets))
    soft = [torch.tensor([0.25, 0.75]), torch.tensor([0.5, 0.5])]
    with pytest.raises(TypeError, match="table_holds='probabilities'"):
        Dataset.from_torchvision(items(*soft))


def test_targets_of_other_tasks():
    tokens = [(torch.arange(5) + n, torch.arange(5) + n) for n in range(8)]
    own = Dataset.from_torchvision(tokens, validation=None)
    assert own.task == "sequences" and own.train.targets[3].tolist() == [3, 4, 5, 6, 7]
    labels = [(torch.zeros(2), [n % 2 == 0, True]) for n in range(8)]
    own = Dataset.from_torchvision(labels, validation=None)
    assert own.task == "labels" and own.train.targets[:2].tolist() == [[1, 1], [0, 1]]


# --- items that are dicts ------------------------------------------------------------------------


def test_items_may_be_dicts_that_hold_sample_and_target():
    texts = [{"input_ids": np.arange(4) + n, "attention_mask": torch.ones(4).bool(), "labels": n % 2} for n in range(6)]
    own = Dataset.from_torchvision(texts, validation=None)
    assert own.train.inputs["input_ids"].tolist()[5] == [5, 6, 7, 8] and own.train.targets.tolist() == [0, 1] * 3
    assert own.train.inputs["attention_mask"].dtype == torch.bool
    pictures = [{"image": Image.new("L", (3, 2), n), "label": np.int64(n % 2)} for n in range(6)]
    own = Dataset.from_torchvision(pictures, validation=None)
    assert own.train.inputs.shape == (6, 1, 2, 3) and own.train.inputs[:, 0, 0, 0].tolist() == list(range(6))
    pairs = [({"x": torch.ones(2) * n, "y": torch.zeros(1)}, n % 2) for n in range(6)]
    assert Dataset.from_torchvision(pairs, validation=None).train.inputs["x"][:, 1].tolist() == list(range(6))


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(2), 0


@pytest.mark.parametrize(
    ("items", "error", "says"),
    [
        ([{"text": "hello", "label": 0}], TypeError, "train sample 0.* not str: turn text into token ids first"),
        ([{"x": torch.zeros(2), "text": "hello", "label": 0}], TypeError, r"sample 0\['text'\].* not str"),
        (
            [{"x": torch.zeros(2), "y": 0}],
            TypeError,
            "a dict with 'x', 'y': .* under one of the keys label, labels, target",
        ),
        ([{"label": 0}], TypeError, "it must have inputs"),
        ([{"x": torch.zeros(2), "label": 0, "labels": 1}], TypeError, "under one of"),
        ([(torch.zeros(2), "cat")], TypeError, "sample 0 has the target 'cat': it must be a class number"),
        ([(torch.zeros(2), None)], TypeError, "has the target None"),
        ([(torch.zeros(2), {"boxes": 1})], TypeError, "a target that is neither a number nor a tensor: dict"),
        ([(torch.zeros(2), 0), (torch.zeros(2), torch.zeros(3))], ValueError, "numbers for some samples and tensors"),
        ([(torch.zeros(2), torch.zeros(2)), (torch.zeros(2), torch.zeros(3))], ValueError, "pad sequences"),
        ([(torch.zeros(2), 0, 1)], TypeError, "must be a pair .* not 3 things"),
        ([torch.zeros(2)], TypeError, "must be a pair .* not Tensor"),
        ([(torch.zeros(2), 0), (torch.zeros(2).double(), 1)], ValueError, "sample 1 has dtype torch.float64, sample 0"),
        ([(torch.zeros(2), 0), ({"x": torch.zeros(2)}, 1)], ValueError, "sample 1 has shape"),
        (
            DataLoader(TensorDataset(torch.zeros(4, 2), torch.zeros(4))),
            TypeError,
            "for a DataLoader, pass its .dataset",
        ),
        (Stream(), TypeError, "must be a map-style data set"),
        (3, TypeError, "must be a map-style data set, .* not int"),
    ],
)
def test_items_of_other_kinds_are_refused_by_number(items, error, says):
    with pytest.raises(error, match=says):
        Dataset.from_torchvision(items)


# --- items that cannot be read, and that change --------------------------------------------------


def test_a_truncated_image_is_named(tmp_path):
    folder = write_classes(tmp_path, "a", "b")
    path = tmp_path / "b" / "3.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ValueError, match=r"train sample 8 \(.*b/3.png\) cannot be read: (OSError|SyntaxError)"):
        Dataset.from_torchvision(folder)
    with pytest.raises(ValueError, match=r"test sample 1 \(.*b/3.png\) cannot be read"):
        Dataset.from_torchvision(Subset(folder, [0, 9]), Subset(folder, [0, 8]))
    with pytest.raises(ValueError, match=r"train sample 10 \(.*b/3.png\) cannot be read"):
        Dataset.from_torchvision(ConcatDataset([Subset(folder, [0, 9]), folder]))


def test_an_error_of_the_users_own_keeps_its_kind_and_gains_the_number():
    class Mistaken(list):
        def __getitem__(self, row):
            return super().__getitem__(row) if row < 2 else {}["no such key"]

    with pytest.raises(KeyError) as caught:
        Dataset.from_torchvision(Mistaken([(torch.zeros(2), 0)] * 3))
    assert caught.value.__notes__ == ["raised by train sample 2"]


@pytest.mark.parametrize("transform", [transforms.RandomCrop(8, padding=2), transforms.ColorJitter(brightness=0.5)])
def test_a_random_transform_is_noticed_once_at_the_users_line(transform):
    def read(*steps):
        fake = datasets.FakeData(40, (3, 8, 8), 4, transform=transforms.Compose([*steps, transforms.ToTensor()]))
        return Dataset.from_torchvision(fake, classes=4)

    with pytest.warns(UserWarning, match=r"random transform, .* now fixed.*augment=\[transform\]") as caught:
        read(transform)
    (warning,) = caught
    assert warning.filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read()


# --- memory --------------------------------------------------------------------------------------

READS = """
from pathlib import Path
import torch
from kdlib import Dataset

class Images:
    def __len__(self):
        return {count}
    def __getitem__(self, row):
        return torch.full((3, 64, 64), row % 256, dtype=torch.uint8), row % 10

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024  # ru_maxrss would be the parent's

Dataset.from_torchvision(torch.utils.data.Subset(Images(), range(200)))
before = peak()
data = Dataset.from_torchvision(Images())
held = sum(split.inputs.numel() for split in (data.train, data.validation)) / 2**20
assert all(int(image[0, 0, 0]) == row % 256 for row, image in zip(data.train.index.tolist(), data.train.inputs))
print((peak() - before) / held)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_reading_a_data_set_takes_its_memory_once():
    run = subprocess.run([sys.executable, "-c", READS.format(count=6_000)], capture_output=True, text=True, check=True)
    assert 0.9 < float(run.stdout) < 1.35, run.stdout
