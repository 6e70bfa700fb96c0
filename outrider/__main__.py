"""`python -m outrider` is the command `outrider`."""

from __future__ import annotations

import sys

from outrider.app import main

sys.exit(main())
