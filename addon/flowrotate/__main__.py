"""`flow-rotate …`, or `python -m flowrotate …`."""

import sys


def main() -> None:
    """The command line needs the extra `cli`; the addon itself does not."""
    try:
        from .cli import cli

        # Within, for some commands import more than others.
        cli(prog_name="flow-rotate")
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        sys.exit("flow-rotate: needs the extra 'cli': install click and rich beside mitmproxy")


if __name__ == "__main__":
    main()
