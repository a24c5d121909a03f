"""ONNX files: the same answers, nothing left of what is refused, and no PyTorch where they run."""

import copy
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import make_data, make_images
from shrunk import IMAGES, NETS, used
from torch import nn

import kdlib
from kdlib import cli, models, shrinking
from kdlib.judging import runtimes
from kdlib.shrinking import exporting, runtime_int8

ROOT = Path(__file__).resolve().parent.parent
MISSING = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
NEEDED = pytest.mark.skipif(bool(MISSING), reason=f'{", ".join(MISSING)} missing: pip install -e ".[deploy]"')

QUICK = ("lenet", "mirrored_resnet9")
QUICK_OR_ALL = pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETS]
)

fit = partial(kdlib.fit, epochs=4, batch_size=32, progress=False)


@pytest.fixture(scope="module")
def trained():
    return fit(copy.deepcopy(NETS["lenet"]), IMAGES)


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    return shrinking.export(trained, tmp_path_factory.mktemp("exported") / "net.onnx", IMAGES)


def about(path):
    return runtimes._session(path, 1).get_modelmeta().custom_metadata_map


def left_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


# --- the same answers ----------------------------------------------------------------------------


@NEEDED
@QUICK_OR_ALL
def test_a_file_answers_as_pytorch_does_at_any_batch(name, tmp_path):
    net = used(name)
    found = shrinking.export(net, tmp_path / "net.onnx", IMAGES)
    assert found.difference < 1e-4 and left_in(tmp_path) == ["net.onnx"], "one file, weights inside"
    answer = runtimes.onnx_model(found.path)
    for count in (1, 7, 64):
        images = IMAGES.train.inputs[:count]
        expected = models.predict(net, images, IMAGES.normalise)
        assert torch.allclose(answer.model(images), expected, atol=1e-4 * max(1, float(expected.abs().max())))
    assert torch.equal(
        net.state_dict()[next(iter(net.state_dict()))], used(name).state_dict()[next(iter(net.state_dict()))]
    )


@NEEDED
def test_what_is_needed_to_use_it_is_inside(tmp_path):
    data = make_images(mean=0.3, std=0.2, classes=3)
    fitted = fit(copy.deepcopy(NETS["lenet"]), data)
    found = shrinking.export(fitted, tmp_path / "net.onnx", data)
    known = {key: json.loads(value) for key, value in about(found.path).items()}
    assert known["classes"] == list(data.classes) and known["input"] == {"shape": [3, 12, 12], "dtype": "uint8"}
    card = known["card"]
    assert card["model"] == "lenet(channels=3, image_size=12, classes=3)" and card["data"] == "bands"
    assert card["preparation"] == {"mean": [0.3], "std": [0.2]} and card["float_errors"] == found.errors
    assert str(found).startswith(f"{found.path}: {found.path.stat().st_size:,} bytes; logits differ from PyTorch's")
    judged = kdlib.evaluate(fitted, runtimes.onnx_model(found.path), on=data.validation)
    assert judged["errors"].nunique() == 1


@NEEDED
def test_shrunk_models_are_exported_like_any_other(tmp_path):
    net = used("convnet")
    smaller = shrinking.prune_channels(net, 0.5, IMAGES) if importlib.util.find_spec("torch_pruning") else net
    shrunk = {"masked": shrinking.prune_weights(net, 0.5), "small": shrinking.fake_quantised(smaller, IMAGES, 4)}
    for name, model in shrunk.items():
        found = shrinking.export(model, tmp_path / f"{name}.onnx", IMAGES)
        answer = runtimes.onnx_model(found.path)
        agreed = [
            one.argmax(1)
            for one in (answer.model(IMAGES.train.inputs), models.predict(model, IMAGES.train.inputs, IMAGES.normalise))
        ]
        assert (agreed[0] == agreed[1]).float().mean() > 0.98, name


@NEEDED
def test_vectors_and_data_without_labels_are_exported_too(tmp_path):
    data = make_data(samples=100, validation=None)
    found = shrinking.export(models.mlp(8, features=6, classes=3), tmp_path / "net.onnx", data)
    assert found.samples == 0 and json.loads(about(found.path)["input"]) == {"shape": [6], "dtype": "float32"}
    with pytest.raises(ValueError, match="int8 needs validation images with labels"):
        shrinking.export(models.mlp(8, features=6, classes=3), tmp_path / "other.onnx", data, int8=True)


# --- what is refused -----------------------------------------------------------------------------


class Moody(nn.Module):
    """Which way it goes depends on the values."""

    def forward(self, x):
        return x.flatten(1)[:, :3] if x.sum() > 0 else x.flatten(1)[:, 3:6]


class Off(nn.Module):
    """Gives other answers when it is traced."""

    def forward(self, x):
        return x.flatten(1)[:, :3] + (0.01 if torch.compiler.is_exporting() else 0)


@NEEDED
@pytest.mark.parametrize(
    ("net", "says"),
    [
        (Moody(), "Moody cannot be exported to ONNX"),
        (Off(), "gives other answers than PyTorch: logits differ by up to 0.01 "),
    ],
)
def test_what_cannot_be_exported_leaves_nothing_behind(net, says, tmp_path):
    with pytest.raises(ValueError, match=says) as error:
        shrinking.export(net, tmp_path / "net.onnx", IMAGES)
    assert left_in(tmp_path) == [] and len(str(error.value)) < 400
    (tmp_path / "net.onnx").write_text("an earlier one")
    with pytest.raises(ValueError, match=says):
        shrinking.export(net, tmp_path / "net.onnx", IMAGES)
    assert left_in(tmp_path) == ["net.onnx"] and (tmp_path / "net.onnx").read_text() == "an earlier one"


@NEEDED
def test_names_numbers_and_kinds_are_checked(trained, tmp_path):
    for options, says in (({"path": "net.pt"}, "must end in .onnx"), ({"most_lost": -1}, "most_lost must be a number")):
        with pytest.raises(ValueError, match=says):
            shrinking.export(trained, data=IMAGES, **{"path": tmp_path / "net.onnx", **options})
    with pytest.raises(TypeError, match=r"needs a torch\.nn\.Module"):
        shrinking.export(lambda x: x, tmp_path / "net.onnx", IMAGES)
    with pytest.raises(ValueError, match="exporting needs images of the kind that the model was trained on"):
        shrinking.export(trained, tmp_path / "net.onnx", make_images(mean=0.5, std=0.2))
    with pytest.raises(ValueError, match="is quantised already"):
        shrinking.export(shrinking.fake_quantised(trained, IMAGES, 8), tmp_path / "net.onnx", IMAGES, int8=True)
    assert left_in(tmp_path) == []


@NEEDED
def test_another_version_of_operations_is_refused(trained, tmp_path, monkeypatch):
    """Asked for 9, PyTorch writes 18 without a word."""
    monkeypatch.setattr(exporting, "OPSET", 9)
    with pytest.raises(
        ValueError, match=r"wrote operations of version \[\d+\], where 9 was asked for|cannot be exported"
    ):
        shrinking.export(trained, tmp_path / "net.onnx", IMAGES)
    assert left_in(tmp_path) == []


# --- eight bits ----------------------------------------------------------------------------------


@NEEDED
@pytest.mark.parametrize("name", ["mlp", "lenet", pytest.param("resnet", marks=pytest.mark.slow)])
def test_int8_is_smaller_and_says_what_it_costs(name, tmp_path):
    fitted = fit(copy.deepcopy(NETS[name]), IMAGES)
    whole = shrinking.export(fitted, tmp_path / "float.onnx", IMAGES)
    found = shrinking.export(fitted, tmp_path / "int8.onnx", IMAGES, int8=True, most_lost=5)
    kinds = {row["kind"] for row in found.int8}
    assert kinds == {*runtime_int8.STATIC, *([runtime_int8.DYNAMIC] if name == "mlp" else [])}
    (kept,) = [row for row in found.int8 if row["kept"]]
    assert kept["ms"] == min(row["ms"] for row in found.int8 if row["errors"] - found.errors <= found.samples * 0.05)
    wrong = runtimes.onnx_model(found.path).model(IMAGES.validation.inputs).argmax(1) != IMAGES.validation.targets
    assert int(wrong.sum()) == kept["errors"] and kept["kind"] in str(found)
    if name != "resnet":  # whose few weights are fewer than the grids
        assert found.bytes < whole.bytes
    assert json.loads(about(found.path)["card"])["int8"] == found.int8 and json.loads(about(found.path)["classes"])


@NEEDED
def test_it_is_calibrated_on_training_images_only(trained, tmp_path, monkeypatch):
    seen, reader = [], runtime_int8._Reader
    monkeypatch.setattr(runtime_int8, "_Reader", lambda images: seen.append(images) or reader(images))
    shrinking.export(trained, tmp_path / "net.onnx", IMAGES, int8=True, most_lost=5)
    train = {image.numpy().tobytes() for image in IMAGES.train.inputs}
    held_out = {image.numpy().tobytes() for image in IMAGES.validation.inputs}
    shown = {image.numpy().tobytes() for images in seen for image in images}
    assert shown and shown <= train and not shown & held_out


@NEEDED
def test_int8_that_costs_too_much_is_refused(trained, tmp_path, monkeypatch):
    """Calibrated on dark noise, every pixel of a real image is clipped to the same value."""
    dark = torch.randint(0, 4, (64, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(runtime_int8, "calibration_inputs", lambda data: dark)
    with pytest.raises(
        ValueError, match=r"int8 costs too much: \d+ errors of 20 validation images in float, and in int8 \d+"
    ):
        shrinking.export(trained, tmp_path / "net.onnx", IMAGES, int8=True)
    assert left_in(tmp_path) == []
    with pytest.raises(ValueError, match="calibration needs at least 64 training images"):
        monkeypatch.undo()
        shrinking.export(trained, tmp_path / "net.onnx", make_images(samples=40), int8=True)
    assert left_in(tmp_path) == []


# --- without PyTorch, without the extra, from a shell --------------------------------------------


@NEEDED
def test_the_script_of_the_documents_runs_where_torch_cannot_be_imported(exported, tmp_path):
    programs = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/deploy.md").read_text(encoding="utf-8"), re.M | re.S)
    (script,) = [program for program in programs if "InferenceSession" in program]
    lines = [line for line in script.splitlines() if line.strip()]
    assert len(lines) <= 10 and "torch" not in script and "kdlib" not in script
    (tmp_path / "runs").mkdir()
    shutil.copy(exported.path, tmp_path / "runs" / "digits.onnx")
    banned = "import sys; sys.modules |= dict.fromkeys(['torch', 'kdlib', 'pandas', 'onnx'])\n"
    run = subprocess.run([sys.executable, "-c", banned + script], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[0] in IMAGES.classes


def test_without_the_extra_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        ImportError, match=r'exporting needs onnx, which is not installed.*pip install .* -e "\.\[deploy\]"'
    ):
        shrinking.export(NETS["mlp"], tmp_path / "net.onnx", IMAGES)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="running an ONNX file needs onnxruntime"):
        runtimes.onnx_model(tmp_path / "net.onnx")
    assert left_in(tmp_path) == []


@NEEDED
def test_a_runtime_too_old_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("kdlib.extras.version", lambda package: "1.9.0")
    with pytest.raises(ImportError, match=r"exporting needs onnx 1\.\d+ or newer, and 1\.9\.0 is installed"):
        shrinking.export(NETS["mlp"], tmp_path / "net.onnx", IMAGES)


@NEEDED
def test_the_command_exports_and_refuses_in_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDLIB_SOURCE", "offline")
    data = kdlib.load("mnist", source="offline", verbose=False)
    kdlib.fit(models.mlp(16), data, epochs=2, progress=False).save("net.safetensors")
    assert cli.main(["export", "net.safetensors", "--out", "net.onnx", "--int8"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-4].startswith("float: ") and sum(line.endswith(", kept") for line in out) == 1
    assert Path("net.onnx").stat().st_size < 25_450 * 2
    assert cli.main(["export", "net.safetensors", "--out", "net.bin"]) == 2
    assert cli.main(["export", "mnist-resnet", "--out", "teacher.onnx"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-2].startswith("kdlib export: the file's name must end in .onnx") and "full MNIST" in said[-1]
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert cli.main(["export", "net.safetensors", "--out", "other.onnx"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("kdlib export: exporting needs onnxscript") and "[deploy]" in said
    assert left_in(tmp_path) == ["net.onnx", "net.safetensors"]


# --- what a file costs ---------------------------------------------------------------------------


@NEEDED
def test_latencies_are_measured_in_turn_and_leave_the_threads_alone(trained, exported):
    before = torch.get_num_threads()
    table = runtimes.latencies({"file": exported.path, "net": trained}, IMAGES.train.inputs, rounds=3)
    assert torch.get_num_threads() == before
    assert len(table) == 8 and (table["low"] <= table["ms"]).all() and (table["ms"] <= table["high"]).all()
    assert dict(zip(table["model"], table["runtime"], strict=True)) == {"file": "ONNX Runtime", "net": "PyTorch"}
    wide = table.pivot(index="model", columns=["threads", "batch"], values="ms")
    assert (wide[1, 64] > wide[1, 1]).all()
    with pytest.raises(TypeError, match="timed are files"):
        runtimes.latencies({"net": trained.model}, IMAGES.train.inputs)
    with pytest.raises(ValueError, match="at least one model"):
        runtimes.latencies({}, IMAGES.train.inputs)


@NEEDED
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no getrusage")
def test_memory_is_the_child_s_own_and_not_its_parent_s(exported, tmp_path):
    import resource

    ballast = torch.ones(80_000_000)
    memory = runtimes.peak_memory(exported.path, IMAGES.train.inputs[:64])
    parent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    assert 5e6 < memory.runtime < memory.peak < min(parent, 4 * len(ballast))
    with pytest.raises(FileNotFoundError):
        runtimes.peak_memory(tmp_path / "none.onnx", IMAGES.train.inputs[:1])
    (tmp_path / "bad.onnx").write_text("no model")
    with pytest.raises(RuntimeError, match=r"the process that should answer with bad\.onnx failed: \S"):
        runtimes.peak_memory(tmp_path / "bad.onnx", IMAGES.train.inputs[:1])
    with pytest.raises(ValueError, match="cannot be read by ONNX Runtime"):
        runtimes.onnx_model(tmp_path / "bad.onnx")


@NEEDED
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no getrusage")
def test_a_scorecard_of_files_has_errors_bytes_memory_and_milliseconds(trained, exported, tmp_path):
    trained.save(tmp_path / "net.safetensors")
    files = {
        "torch": tmp_path / "net.safetensors",
        "ort": exported.path,
    }
    table = runtimes.files_table(files, IMAGES.validation, classes=IMAGES.classes, rounds=2)
    assert table["errors"].nunique() == 1 and list(table["samples"]) == [20, 20]
    assert [round(1000 * size) for size in table["kilobytes"]] == [path.stat().st_size for path in files.values()]
    assert table.loc["ort", "megabytes of memory"] < table.loc["torch", "megabytes of memory"]
    assert sum(column.startswith("ms, batch ") for column in table) == 4 and table.notna().all().all()
