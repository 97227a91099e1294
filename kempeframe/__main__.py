"""`python -m kempeframe`."""

import sys

from kempeframe.cli import main

sys.exit(main())
