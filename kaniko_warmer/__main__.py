"""``python -m kaniko_warmer``, and what the installed ``kaniko-warmer`` calls."""

import gc
import os
import sys

from kaniko_core.home import relocated

# Objects that are made before garbage is looked for among them. By default that is done for each
# 700, hundreds of times while modules are imported, which leaves none. A build of a few
# instructions makes 75,000, nearly all by importing, and to look through 50,000 takes 10 ms.
_BEFORE_COLLECTING = 100_000


def main() -> int:
    """Run kaniko-warmer on the process's arguments and return its exit status."""
    relocated(sys.argv, os.environ)
    gc.set_threshold(_BEFORE_COLLECTING)
    # Imported here, because a program that moves starts anew.
    from kaniko_core.cli import leave, run
    from kaniko_warmer.cli import app

    return leave(run(app, sys.argv[1:], name="kaniko-warmer"))


if __name__ == "__main__":
    sys.exit(main())
