"""Where the recorded reference files lie."""

from pathlib import Path

GOLDEN = Path(__file__).parents[2] / "golden" / "uno_a"
FLUX = GOLDEN / "flux_base.safetensors"
SCONE = GOLDEN.with_name("scone_a")
