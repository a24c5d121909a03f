"""What the demonstration promises on full MNIST. (tests/test_cli.py runs it offline.)"""

import pytest

import kdlib
from kdcourse import demo


@pytest.mark.full_data
def test_with_full_mnist_the_taught_student_wins_in_all_five_seeds(tmp_path):
    found = demo.run(kdlib.load("mnist", source="full", verbose=False))
    errors = kdlib.evaluate(found.teacher, on=found.data.test)["errors"][0]
    assert errors <= 150
    assert found.comparison.wins == len(found.comparison.runs) == 5
    assert found.comparison.interval[0] > 0
    figure = found.save(tmp_path)
    assert figure.stat().st_size > 10_000 and sorted(path.name for path in tmp_path.iterdir()) == [
        "demo.json",
        "demo.png",
    ]
