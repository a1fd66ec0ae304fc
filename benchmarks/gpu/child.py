"""One part in this process: `python -m benchmarks.gpu.child PART OUT MODEL SECONDS`."""

import sys
import traceback
from importlib import import_module
from pathlib import Path

from benchmarks.gpu.results import DONE, FAILED, Results, Skipped


def main(part: str, out: str, model: str, seconds: str) -> None:
    results = Results(Path(out))
    try:
        from benchmarks.gpu.bench import open_bench  # may fail as the part itself: recorded alike

        import_module(f"benchmarks.gpu.parts.{part}").run(open_bench(part, Path(out), model, float(seconds)))
    except Skipped as reason:
        results.update_part(part, status=f"skipped: {reason}")
    except BaseException as error:
        text = f"{type(error).__name__}: {error}"[:2000]
        results.update_part(part, status="failed", error=text)
        traceback.print_exc()
        sys.exit(1)
    else:
        failed = sum(FAILED in row for row in results.part(part)["rows"])
        results.update_part(part, status=f"done, but {failed} rows failed" if failed else DONE)


if __name__ == "__main__":
    main(*sys.argv[1:])
