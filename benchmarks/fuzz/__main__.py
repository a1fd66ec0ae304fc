"""Damaged files for a reader, and a table of what became of them; exits 1 where it is not what it should be.

python -m benchmarks.fuzz pictures --reads 100000
python -m benchmarks.fuzz pictures --minutes 15 --seed 7
"""

import argparse
import sys

from benchmarks.fuzz.pictures import fuzz_pictures, table


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reader", choices=["pictures"], help="reader to try")
    parser.add_argument("--reads", type=int, default=10**9, help="number of damaged files (default no limit)")
    parser.add_argument("--minutes", type=float, default=15.0, help="minutes to go on at most (default 15)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damages (default 0)")
    args = parser.parse_args()
    outcomes = fuzz_pictures(args.reads, 60 * args.minutes, args.seed)
    print(table(outcomes))
    return int(any(each.other or each.sizes_differ for each in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
