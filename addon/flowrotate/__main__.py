"""`flow-rotate …`, or `python -m flowrotate …`."""

import sys


def main() -> None:
    """The command line needs the extra `cli`; the addon itself does not."""
    try:
        from .cli import cli
    except ModuleNotFoundError as e:
        if e.name not in ("click", "rich"):
            raise
        sys.exit("flow-rotate's command line needs its extra: pip install 'flow-rotate[cli]'")
    cli(prog_name="flow-rotate")


if __name__ == "__main__":
    main()
