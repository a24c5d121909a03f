"""``python -m kdlib``: the same as the command ``kdlib``."""

from kdlib.cli import main

raise SystemExit(main())
