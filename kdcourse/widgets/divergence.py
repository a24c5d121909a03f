"""Forward and reverse KL of a student with one hump from a teacher with several."""

from torch import Tensor

from kdcourse.widgets.widget import Widget, control, number
from kdlib import losses, plots


def one_hump(places: Tensor, teacher: Tensor, place: float, width: float) -> Widget:
    """Both directions of KL for a hump that the reader drags.

    Args:
        places: the classes' places on a line, [C], in equal steps.
        teacher: the teacher's logits, [C].
        place: the student's place at the start.
        width: its width at the start.
    """
    tenths = {"place": range(-30, 31), "width": range(4, 31)}
    start = {"place": place, "width": width}
    controls = [
        control(name, f"{name} of the hump", [t / 10 for t in steps], [number(t / 10, 1) for t in steps], start[name])
        for name, steps in tenths.items()
    ]
    student = -((places - place) ** 2) / (2 * width**2)
    forward, reverse = (loss(student[None], teacher[None]).item() for loss in (losses.forward_kl, losses.reverse_kl))
    p = teacher.double().softmax(0)
    x = {"range": [places[0].item(), places[-1].item()], "ticks": list(range(-6, 7, 2))}
    y = {"range": [0, 0.1], "ticks": [0, 0.02, 0.04, 0.06, 0.08, 0.1]}
    spec = {
        "kind": "humps",
        "title": "Forward and reverse KL of one hump from two",
        "picture": "The teacher's humps, filled, the student's one hump as a line; below, two bars for the two KLs.",
        "controls": controls,
        "styles": plots.STYLES,
        "places": places.tolist(),
        "teacher": p.tolist(),
        "x": x | {"label": "class (its place on a line)"},
        "y": y | {"label": "probability"},
    }
    figure, (above, below) = plots.new_figure(rows=2, width=7.6, height=4)
    above.get_gridspec().set_height_ratios([3, 1])
    above.fill_between(places, p, color="#BBBBBB", label="teacher")
    above.plot(places, student.softmax(0), linewidth=2.5, label="student", **plots.STYLES[1] | {"marker": ""})
    above.set(xlabel="class (its place on a line)", ylabel="probability", ylim=(0, 0.1))
    above.legend(frameon=False, fontsize=13)
    below.barh(("forward KL", "reverse KL"), (forward, reverse), color=[plots.STYLES[i]["color"] for i in (0, 2)])
    below.set(xlabel="nats", xlim=(0, 3))
    below.invert_yaxis()
    hump = f"Hump at {number(place, 1)}, width {width:.1f}"
    return Widget(spec, figure, f"{hump}: forward KL {forward:.2f}, reverse KL {reverse:.2f} nats.")
