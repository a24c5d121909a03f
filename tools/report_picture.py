"""Make ``docs/report.png``: the report on a made-up class, taken by Chromium. Needs the extra ``instructor``."""

import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from grading import assignments, report
from grading.collect import Student
from grading.kept import WHY, Change
from grading.score import Score

NAMES = (
    "Ada Lindt", "Bo Nilsen", "Chen Wei", "Dara O’Shea", "Efua Mensah", "Farid Aziz", "Gül Demir", "Hana Sato",
    "Ivo Marek", "Juno Park",
)  # fmt: skip


def main():
    assignment, chance = assignments.load("ex01"), random.Random(7)
    lines = [line(assignment, name, chance) for name in NAMES]
    odd = lines[3]
    odd.score.parts["soften"] |= {"points": 0.0, "text": "soften: the temperature multiplies instead of dividing."}
    odd.points["soften"] = 0.0
    odd.score.flags.append("soften calls torch.softmax")
    odd.score.stopped = ["code cell 4 stopped with NameError: name 'np' is not defined"]
    lines[5] = report.Line(lines[5].student, {one.name: 0.0 for one in assignment.graded}, {}, None)
    again = lines[7]
    lines[7] = report.Line(
        again.student, {**again.points, "dark_knowledge": 2.0}, {}, again.score, again=["dark_knowledge"]
    )
    changes = {odd.student.id: [Change("entropy", 0.0, 2.0, WHY["checks"], "2026-12-08 09:12")]}
    notes = {
        "Missing": [lines[5].student.id],
        "Not read": ["hana/draft.zip: encrypted"],
        "Held-out inputs": "Private: private/ex01/held_out.json.",
        "Isolation": "bubblewrap: own file system, no network, own processes",
        "Time": "14 s for 9 hand-ins, 2 at once.",
    }
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder:
        report.write_all(Path(folder), assignment, lines, [("bo", "ivo", 0.94)], changes, notes, protected=True)
        size = ["--window-size=1200,1530", "--hide-scrollbars"]
        picture = f"--screenshot={ROOT / 'docs' / 'report.png'}"
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", *size, picture, f"{folder}/report.html"]
        subprocess.run(command, check=True, capture_output=True)


def line(assignment, name, chance):
    parts = {}
    for one in assignment.graded:
        points = (float(one.points) if chance.random() < 0.8 else 0.0) if one.part else None
        parts[one.name] = {"points": points, "of": one.points, "text": f"{one.name}: right on all 24 inputs."}
    points = {name: part["points"] for name, part in parts.items()}
    if chance.random() < 0.6:
        points["dark_knowledge"] = chance.choice([1.0, 2.0, 3.0])
    return report.Line(Student(name.split()[0].lower(), name), points, {}, Score(parts=parts))


if __name__ == "__main__":
    main()
