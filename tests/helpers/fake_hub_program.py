"""A program for tests: ``python -m bench`` where the tiny suite and its encoder are registered.

Which hub they come from is said by the environment.
"""

import sys

from bench.cli.app import main
from tests.helpers import tiny_vision_suite as tiny

if __name__ == "__main__":
    with tiny.registered():
        sys.exit(main(sys.argv[1:]))
