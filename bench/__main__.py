"""Entry point of ``python -m bench``."""

import sys

from bench.cli.app import main

if __name__ == "__main__":  # worker processes import this file and must not run it
    sys.exit(main())
