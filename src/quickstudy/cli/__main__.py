"""`python -m quickstudy.cli`."""

import sys

from quickstudy.cli import main

sys.exit(main())
