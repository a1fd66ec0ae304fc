"""`uno-report`, `python -m uno_jax.report RUN…`: one page of evaluations and training runs."""

import sys
from collections.abc import Sequence

from uno_jax.reporting.evaluations import ReportError
from uno_jax.reporting.write import ReportArgs, write_report
from uno_jax.support.command_line import exit_on, parse_args
from uno_jax.support.words import counted, printable

NAMED = 5  # missing pictures that are printed by name


def main(argv: Sequence[str] | None = None) -> None:
    """The command `uno-report`."""
    args = parse_args(ReportArgs, "uno-report", argv)
    with exit_on(ReportError, OSError):
        thumbnails = write_report(args)
        for path, reason in list(thumbnails.missing.items())[:NAMED]:
            line = f"missing: {reason if str(path) in reason else f'{path}: {reason}'}"
            print(printable(line), file=sys.stderr)
        size = args.out.stat().st_size / 1e6
        missing = f", {len(thumbnails.missing)} missing" if thumbnails.missing else ""
        print(f"wrote {args.out} ({size:.1f} MB; {counted(len(thumbnails.uris), 'picture')}{missing})")


if __name__ == "__main__":
    main()
