"""A synthesis stage killed with SIGKILL again and again: its rows must be those of an undisturbed run.

    python -m benchmarks.synthesis_kills FOLDER --kills 20      # about four minutes on two cores

Drawn pairs are imported and go through filter-dino with EfficientNet-Lite0 in batches of four. Each start is
killed a random while after its first new row; the last one is left to finish. Exits 1 on a lost, doubled or
different row.
"""

import argparse
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tools.common.manifest import Manifest

STAGE = "filter-dino"
SETTINGS = ("--config", "small", "--filter-dino.batch-size", "4")


def command(run: Path, *words: object) -> list[str]:
    return [str(word) for word in (sys.executable, "-m", "tools.synthesize_data", *words, "--run", run)]


def import_pairs(folder: Path, run: Path, pairs: int) -> None:
    """Draws the pairs once and imports them."""
    source = folder / "drawn" / "pairs.json"
    if not source.exists():
        draw = ("-m", "uno_jax.toybox", "--out", folder / "drawn", "--count", pairs, "--size", 64)
        subprocess.run([sys.executable, *map(str, draw)], check=True, capture_output=True)
    subprocess.run(command(run, "import", *SETTINGS, "--source", source), check=True, capture_output=True)


def lines(run: Path) -> int:
    path = run / "manifest" / f"{STAGE}.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def killed(run: Path, delay: float) -> bool:
    """Starts the stage and kills it `delay` seconds after its first new row; false when it ended before."""
    before = lines(run)
    process = subprocess.Popen(command(run, STAGE), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and lines(run) == before:
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    return process.wait() != 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder for what the runs write; empty or absent")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=600)
    args = parser.parse_args()
    whole, disturbed = args.folder / "whole", args.folder / "disturbed"
    for run in (whole, disturbed):
        import_pairs(args.folder, run, args.pairs)
    start = time.perf_counter()
    subprocess.run(command(whole, STAGE), check=True, capture_output=True)
    print(f"undisturbed: {time.perf_counter() - start:.1f} s for {lines(whole)} rows", flush=True)
    rng, kills = random.Random(0), 0
    while kills < args.kills and killed(disturbed, rng.uniform(0, 0.5)):
        kills += 1
        print(f"kill {kills}: {lines(disturbed)} rows", flush=True)
    subprocess.run(command(disturbed, STAGE), check=True, capture_output=True)
    expected, found = (Manifest(run / "manifest" / f"{STAGE}.jsonl").read() for run in (whole, disturbed))
    different = sum(expected.get(id) != found.get(id) for id in expected.keys() | found.keys())
    print(f"{kills} kills, {len(found)} rows, {different} lost or different; none twice")
    sys.exit(int(different > 0 or kills < args.kills))


if __name__ == "__main__":
    main()
