"""`python -m runstream.sender --spool DIR`: the sender of a spool root. Scripts start it on demand."""

import os
import sys


def _main() -> None:
    # Started by its path. The package is found as a script would find it, else where this file is.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from runstream.sender.process import main

    main()


if __name__ == "__main__":
    _main()
