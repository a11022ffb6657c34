"""`python -m embedstore`: the command line."""

import sys

from embedstore.cli import main

if __name__ == "__main__":
    sys.exit(main())
