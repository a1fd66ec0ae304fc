"""What UNO's training pairs cost: operations of every stage, and GPU hours at a share of the peak.

    python -m benchmarks.synthesis_cost

Nothing is measured: the figures are computed, and count the models' matrix products and attention only.
Candidates follow from the share that UNO's paper publishes (35.4 % of the scored pairs have 4 of 4); what
other stages reject is not published and taken as nothing. For both reasons the figures are lower bounds.
"""

from typing import NamedTuple

PEAK, SHARE = 989e12, 0.5  # bfloat16 operations a second of an H100 or H200, and the share that is reached
KEPT_BY_VLM = 0.354
SINGLE, TWO = 230_000, 15_000

TEXT = 512  # T5 tokens
FLUX_PER_TOKEN = 57 * 12 * 3072**2 * 2  # linear layers of 19 + 38 blocks
STEPS, REFERENCE_STEPS = 28, 25


class Work(NamedTuple):
    """One stage of one list: rows, and operations of a row."""

    stage: str
    rows: float
    flop: float


def flux(width: int, height: int, steps: int, reference: int = 0) -> float:
    """Operations of a picture: tokens of 16 pixels square, text, and a square reference of `reference`
    pixels.
    """
    tokens = width * height / 16**2 + reference**2 / 16**2 + TEXT
    return steps * (FLUX_PER_TOKEN * tokens + 4 * tokens**2 * 3072 * 57)


def transformer(parameters: float, tokens: float) -> float:
    return 2 * parameters * tokens


def works() -> list[Work]:
    """Panels of 1024; a DINOv2-L of 1370 tokens a picture; a language model of 7 billion parameters that sees
    two pictures of 1300 tokens in each of three rounds and writes 300; a detector of 170 million on 18,000
    tokens.
    """
    pairs, doubles = SINGLE / KEPT_BY_VLM, TWO / KEPT_BY_VLM
    vlm = 3 * transformer(7e9, 2 * 1300 + 300)
    dino = 2 * transformer(0.3e9, 1370)
    subjects = 365 * 3 * 50
    return [
        Work("subjects and scenes by an LLM", subjects, transformer(7e9, 600)),
        Work("generate: diptychs of 2048x1024", pairs, flux(2048, 1024, STEPS)),
        Work("filter-dino", pairs, dino),
        Work("filter-vlm", pairs, vlm),
        Work("detect", doubles, transformer(0.17e9, 18_000)),
        Work("second-reference: 512, one reference", doubles, flux(512, 512, REFERENCE_STEPS, 512)),
        Work("filters of second references", doubles, dino + vlm),
    ]


def main() -> None:
    print(f"| stage | rows | TFLOP a row | GPU hours at {SHARE:.0%} of {PEAK / 1e12:.0f} TFLOP/s |")
    print("|---|---|---|---|")
    total = 0.0
    for work in works():
        hours = work.rows * work.flop / (PEAK * SHARE) / 3600
        total += hours
        print(f"| {work.stage} | {work.rows:,.0f} | {work.flop / 1e12:,.1f} | {hours:,.1f} |")
    print(f"| all | | | {total:,.0f} |")


if __name__ == "__main__":
    main()
