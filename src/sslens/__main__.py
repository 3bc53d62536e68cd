"""`python -m sslens`, and what torchrun starts."""

import sys

from sslens.cli import main

sys.exit(main())
