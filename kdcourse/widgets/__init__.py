"""Widgets that teach: pictures with sliders that move in the page itself, without a kernel and without a network.

One JavaScript module, ``widgets.js``, draws them all, in a notebook and on a web page alike. Where no script may run
(an untrusted notebook, GitHub, print) a still picture stands there with the settings it was drawn at.
"""

from kdcourse.widgets.by_epoch import confusions
from kdcourse.widgets.calibration import reliability
from kdcourse.widgets.digits import temperature
from kdcourse.widgets.divergence import one_hump
from kdcourse.widgets.sweeps import sweep
from kdcourse.widgets.widget import Widget

__all__ = ["Widget", "confusions", "one_hump", "reliability", "sweep", "temperature"]
