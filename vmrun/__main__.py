"""``python -m vmrun``: the same as ``vmrun``."""

import sys

from vmrun.cli.main import main

sys.exit(main())
