"""`python -m node`: the same as `hive node`."""

from __future__ import annotations

import sys

from node.main import main

sys.exit(main())
