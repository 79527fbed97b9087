"""`python -m pellucid.kernels.bench [word ...]`."""

import sys

from pellucid.kernels.bench import main

sys.exit(main(sys.argv[1:]))
