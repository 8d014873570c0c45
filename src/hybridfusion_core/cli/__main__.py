"""`python -m hybridfusion_core.cli`."""

import sys

from hybridfusion_core.cli import main

sys.exit(main())
