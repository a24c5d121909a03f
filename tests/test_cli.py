"""The command: as a person runs it, in real processes; its refusals, which are many, in this one."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import same_weights
from PIL import Image

import kdlib
from kdlib import cli
from kdlib.data import sources

COMMANDS = ("demo", "data", "train", "distill", "evaluate", "check")
QUICK = ("--model", "mlp(8)", "--epochs", "1", "--labels", "200")
NOWHERE = str(Path(os.devnull).parent / "no-such-folder")


def environment(**changes):
    settings = {"KDLIB_SOURCE": "offline", "KDLIB_DATA": NOWHERE, "OMP_NUM_THREADS": "1", "KDLIB_PROGRESS": "0"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KDLIB_")}
    return inherited | settings | changes


def start(folder, *arguments, command=(sys.executable, "-m", "kdlib"), **changes):
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=folder,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def run(folder, *arguments, **options):
    return finish(start(folder, *arguments, **options))


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Runs a command in this process and returns what a shell would see of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDLIB_SOURCE", "offline")

    def command(*arguments):
        try:
            status = cli.main(list(map(str, arguments)))
        except SystemExit as error:  # argparse
            status = error.code
        return status, *capsys.readouterr()

    return command


@pytest.fixture(scope="module", autouse=True)
def demonstration(tmp_path_factory):
    """The demonstration, started first and looked at last: it runs on another core meanwhile."""
    folder = tmp_path_factory.mktemp("demonstration")
    process = start(folder, "demo", "--seeds", "2", "--source", "offline")
    yield folder, process
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a teacher and a student, made by two processes, and what these said."""
    folder = tmp_path_factory.mktemp("trained")
    said = [run(folder, "train", "--model", "mlp(8)", "--epochs", "3", "--out", "teacher.safetensors")]
    taught = (
        "--teacher",
        "teacher.safetensors",
        "--temperature",
        "3",
        "--seed",
        "1",
        "--out",
        "sub/student.safetensors",
    )
    said.append(run(folder, "distill", *QUICK, *taught))
    return folder, said


# --- what it says of itself ----------------------------------------------------------------------


def test_the_installed_script_knows_its_version(tmp_path):
    script = Path(sys.executable).parent / "kdlib"
    assert run(tmp_path, "--version", command=(script,)) == (0, f"kdlib {kdlib.__version__}\n", "")


def test_help_lists_every_command(here, tmp_path):
    status, out, err = here("--help")
    listed = re.findall(r"^    (\w+) +\S", out, re.M)
    assert (status, err) == (0, "") and sorted(listed) == sorted(COMMANDS)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(here, command):
    status, out, err = here(command, "--help")
    assert (status, err) == (0, "") and out.startswith(f"usage: kdlib {command}")


# --- check and data ------------------------------------------------------------------------------


def damaged_mnist(folder):
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in sources.MNIST_FILES:
        (raw / name).write_bytes(b"not digits")
    return folder


def test_check_is_a_list_of_facts(tmp_path):
    status, out, err = run(tmp_path, "check")
    lines = out.splitlines()
    assert status == 0, out + err
    assert len(lines) > 10 and all(line.startswith("OK   ") for line in lines)
    for word in ("python", f"kdlib {kdlib.__version__}", "torch", "cache folder", "MNIST", "CIFAR-10", "speed"):
        assert any(word in line for line in lines), word


def test_check_finds_damaged_data(here, tmp_path, monkeypatch):
    monkeypatch.setenv("KDLIB_DATA", str(damaged_mnist(tmp_path)))
    status, out, _ = here("check")
    assert status == 1 and all(re.match("OK   |FAIL ", line) for line in out.splitlines())
    (failed,) = (line for line in out.splitlines() if line.startswith("FAIL"))
    assert "MNIST" in failed and "is not the published file" in failed


def test_missing_data_is_listed_but_does_not_pass_for_verified(here, tmp_path):
    assert here("data", "list", "--folder", tmp_path) == (
        0,
        f"data folder: {tmp_path}\nMNIST: not here\nCIFAR-10: not here\n",
        "",
    )
    status, out, _ = here("data", "verify", "mnist", "--folder", tmp_path)
    assert (status, out) == (1, f"data folder: {tmp_path}\nMNIST: not here\n")


def test_data_that_is_there_is_verified(here, tmp_path):
    for part in ("train", "test"):
        for name in range(10):
            folder = tmp_path / "mnist" / part / str(name)
            folder.mkdir(parents=True)
            for repeat in range(2):
                Image.new("L", (28, 28), name).save(folder / f"{name}{repeat}.png")
    status, out, _ = here("data", "verify", "mnist", "--folder", tmp_path)
    assert status == 0 and "MNIST, own (an image folder): 18 train, 2 validation, 20 test" in out


def test_damaged_data_is_not_verified(here, tmp_path):
    status, out, _ = here("data", "verify", "mnist", "--folder", damaged_mnist(tmp_path))
    assert status == 1 and "is not the published file" in out


# --- train, distill, evaluate --------------------------------------------------------------------


def test_train_and_distill_write_what_they_say(trained):
    folder, said = trained
    assert files_in(folder) == ["sub/student.safetensors", "teacher.safetensors"]
    names = ("teacher.safetensors", "sub/student.safetensors")
    for (status, out, err), name, epochs in zip(said, names, (3, 1), strict=True):
        assert (status, err) == (0, "")
        fitted = kdlib.load_fitted(folder / name)
        errors = fitted.history[-1]["validation_errors"]
        first, last = out.splitlines()
        assert first.startswith("MNIST, offline (5,000 real digits")
        assert re.fullmatch(rf"mlp\(8\): {epochs} epochs, .* s, validation errors {errors}; saved to {name}", last)
    teacher, student = (kdlib.load_fitted(folder / name).record["run"] for name in reversed(files_in(folder)))
    assert teacher["objective"] == {"objective": "cross_entropy(label_smoothing=0.0)"}
    assert student["objective"]["temperature"] == 3 and student["objective"]["teacher"] == "mlp(8)"
    assert student["train_samples"] == 200 and (teacher["seed"], student["seed"]) == (0, 1)


def test_the_command_trains_what_the_library_trains(trained):
    digits = kdlib.load("mnist", source="offline", verbose=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        fitted = kdlib.fit(kdlib.models.mlp(8), digits, epochs=3, device="cpu")
    finally:
        torch.set_num_threads(threads)
    written = kdlib.load_fitted(trained[0] / "teacher.safetensors")
    if written.record["machine"]["device"] == "cpu":
        assert same_weights(written.model, fitted.model)


def test_evaluate_prints_a_table(trained):
    folder, _ = trained
    status, out, err = run(folder, "evaluate", "teacher.safetensors", "sub/student.safetensors")
    header, *rows = out.splitlines()[1:]
    assert (status, err, len(rows)) == (0, "", 2)
    columns = "file model objective parameters labels epochs seconds errors of accuracy loss"
    assert header.split() == columns.split()
    test = kdlib.load("mnist", source="offline", verbose=False).test
    for row, name in zip(rows, ("teacher.safetensors", "sub/student.safetensors"), strict=True):
        errors = int(kdlib.evaluate(kdlib.load_fitted(folder / name), on=test)["errors"][0])
        cells = dict(zip(columns.split(), row.split(), strict=True))
        assert (cells["file"], cells["errors"], cells["of"]) == (Path(name).name, str(errors), "1000")
        assert cells["accuracy"] == f"{1 - errors / 1000:.4f}"


def test_the_split_can_be_chosen(here, trained):
    status, out, _ = here("evaluate", trained[0] / "teacher.safetensors", "--split", "validation")
    assert status == 0 and out.splitlines()[-1].split()[-3] == "500"


def test_a_run_with_a_checkpoint_goes_on_from_it(here, tmp_path):
    arguments = ("train", *QUICK, "--checkpoint", "run.ckpt", "--out", "model.safetensors")
    assert here(*arguments)[0] == 0
    first, checkpoint = kdlib.load_fitted(tmp_path / "model.safetensors"), (tmp_path / "run.ckpt").read_bytes()
    (tmp_path / "model.safetensors").unlink()
    assert here(*arguments)[0] == 0
    again = kdlib.load_fitted(tmp_path / "model.safetensors")
    assert again.history == first.history, "seconds too: nothing was trained again"
    assert same_weights(first.model, again.model) and (tmp_path / "run.ckpt").read_bytes() == checkpoint
    status, _, err = here(*arguments, "--seed", "1")
    assert status == 2 and "checkpoint of another run" in err
    assert files_in(tmp_path) == ["model.safetensors", "run.ckpt"]


def test_augmentation_and_losses_reach_the_record(here, trained, tmp_path):
    options = ("--augment", "shift", "--padding", "1", "--soft", "reverse_kl", "--alpha", "1", "--no-t-squared")
    status, _, err = here("distill", *QUICK, "--teacher", trained[0] / "teacher.safetensors", *options, "--out", "m")
    assert (status, err) == (0, "")
    run = kdlib.load_fitted(tmp_path / "m").record["run"]
    assert run["augment"] == ["shifted_crop(padding=1)"]
    assert (run["objective"]["soft"], run["objective"]["alpha"], run["objective"]["t_squared"]) == (
        "reverse_kl",
        1,
        False,
    )


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--data", "mnits"], "there is no data set 'mnits'; did you mean 'mnist'"),
        (["train", "--model", "resnet50"], "'resnet50' is no model: write it like mlp"),
        (["train", "--model", "__import__('os')"], "is no model"),
        (["train", "--model", "__import__('os').mkdir('fallen')"], "is no model"),
        (["train", "--model", "mlp(__import__('os').mkdir('fallen'))"], "is no model"),
        (["train", "--model", "mlp(8"], "is no model"),
        (["train", "--model", "lambda: 0"], "is no model"),
        (["train", "--model", ""], "is no model"),
        (["train", "--model", "mlp(8, depth=3)"], "unexpected keyword argument 'depth'"),
        (["train", "--model", "mlp(0)"], "hidden must be a whole number above 0"),
        (["train", "--epochs", "0"], "epochs must be a whole number above 0, not 0"),
        (["train", "--batch-size", "0"], "batch_size must be a whole number above 0"),
        (["train", "--labels", "-1"], "count must be from 1 to 3,500"),
        (["train", "--labels", "3501"], "count must be from 1 to 3,500"),
        (["train", "--lr", "-1"], "learning rate"),
        (["train", "--label-smoothing", "2"], "label_smoothing must be a number from 0 to 1"),
        (["train", "--device", "toaster"], "device 'toaster' is unknown"),
        (["train", "--source", "auto", "--folder", "."], "no MNIST in ."),
        (["distill", "--teacher", "missing.safetensors"], "there is no file missing.safetensors"),
        (["distill", "--teacher", "TEACHER", "--alpha", "2"], "alpha must be"),
        (["distill", "--teacher", "TEACHER", "--temperature", "0"], "temperature must be"),
        (["evaluate", "missing.safetensors"], "there is no file missing.safetensors"),
        (["train", "--model", "mlp(4)", "--epochs", "1", "--labels", "0"], "count must be from 1 to 3,500"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(here, trained, tmp_path, arguments, says):
    status, out, err = here(*(str(trained[0] / "teacher.safetensors") if a == "TEACHER" else a for a in arguments))
    assert status == 2 and err.count("\n") == 1 and err.startswith(f"kdlib {arguments[0]}: ") and says in err
    assert "Traceback" not in out and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["learn"], "invalid choice: 'learn'"),
        (["distill"], "the following arguments are required: --teacher"),
        (["train", "--source", "web"], "invalid choice: 'web'"),
        (["train", "--epochs", "many"], "invalid int value: 'many'"),
        (["data", "verify", "imagenet"], "invalid choice: 'imagenet'"),
    ],
)
def test_what_argparse_refuses_ends_with_2_too(here, arguments, says):
    status, out, err = here(*arguments)
    assert (status, out) == (2, "") and says in err.splitlines()[-1]


def test_batches_of_one_sample_end_well_or_in_words(here):
    status, _, err = here("train", *QUICK, "--batch-size", "1")
    assert status == 0 or (status == 2 and "batch" in err)


def test_a_bad_setting_of_the_shell_is_refused_in_a_real_process_too(tmp_path):
    status, out, err = run(tmp_path, "train", KDLIB_SOURCE="bad")
    assert (status, out) == (2, "") and err == "kdlib train: source must be one of auto, full, offline, not 'bad'\n"
    assert files_in(tmp_path) == []


# --- Ctrl-C --------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT to a child is POSIX")
def test_ctrl_c_ends_a_run_with_130_and_no_half_written_file(tmp_path):
    arguments = ("--model", "mlp(800, 800)", "--epochs", "2000", "--checkpoint", "run.ckpt", "--out", "out/model")
    process = start(tmp_path, "train", *arguments, KDLIB_PROGRESS="1")
    said = ""
    while "validation error" not in said:  # in the progress bar, once the first epoch and its checkpoint are done
        read = process.stderr.read(1)
        assert read, said
        said += read
    process.send_signal(signal.SIGINT)
    status, _, err = finish(process)
    assert status == 130 and "Traceback" not in err
    assert err.splitlines()[-1] == "kdlib train: interrupted; no file was left half written"
    assert files_in(tmp_path) == ["run.ckpt"]
    with pytest.raises(ValueError, match="is the checkpoint of another run"):  # read to its end, so it is whole
        digits = kdlib.load("mnist", source="offline", verbose=False)
        kdlib.fit(kdlib.models.mlp(4), digits, epochs=1, checkpoint=tmp_path / "run.ckpt")


# --- the demonstration ---------------------------------------------------------------------------


def test_the_demonstration_says_and_draws_what_it_found(demonstration):
    folder, process = demonstration
    status, out, err = finish(process)
    assert (status, err) == (0, "")
    assert files_in(folder) == ["runs/demo/demo.json", "runs/demo/demo.png"] and "runs/demo/demo.png" in out
    assert (folder / "runs" / "demo" / "demo.png").read_bytes().startswith(b"\x89PNG\r\n")
    lines = out.splitlines()
    (header,) = (number for number, line in enumerate(lines) if line.split()[:1] == ["role"])
    columns = ["role", "model", "parameters", "labels", "epochs", "seconds", "validation errors", "test errors"]
    assert re.split(r"\s{2,}|(?<! errors) (?!errors)", lines[header].strip()) == columns
    found = json.loads((folder / "runs" / "demo" / "demo.json").read_text(encoding="utf-8"))
    runs = pd.DataFrame(found["runs"])
    teacher, alone, taught = (line.strip() for line in lines[header + 1 : header + 4])
    made = found["teacher"]["run"]
    assert teacher.startswith(f"teacher {made['model']}  ") and f" {made['epochs']} " in teacher and "±" not in teacher
    for name, line, errors in (("alone", alone, "baseline_errors"), ("taught", taught, "student_errors")):
        assert re.split(r"\s{2,}", line)[:3] == [f"student {name}", "mlp(64)", "50,890"]
        assert line.endswith(f"{runs[errors].mean():.1f} ± {runs[errors].std():.1f}")
    comparison = kdlib.judging.Comparison(runs, 1000)
    assert runs["seed"].tolist() == [0, 1] and f"on test, {comparison}." in out
    assert re.search(r"errors saved: [+-][\d.]+ of 1,000, 95% interval \[[+-][\d.]+, [+-][\d.]+\]", out)
    assert found["text"] in out and found["teacher"]["run"]["source"] == "offline"
