"""The command ``geomsink``, also as ``python -m geomsink``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say in one sentence which packages it is missing."""
    try:
        from geomsink.cli import cli
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("click", "rich"):
            raise
        print(f"geomsink: the command line needs the package {package}: pip install 'geomsink[cli]'", file=sys.stderr)
        sys.exit(2)
    cli(prog_name="geomsink")


if __name__ == "__main__":
    main()
