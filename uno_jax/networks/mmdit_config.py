"""The config of the FLUX MM-DiT, and which of its kernels hold several."""

from dataclasses import dataclass

from uno_jax.networks.bounds import LAYERS, WIDTH, check_bounds, check_divides
from uno_jax.networks.fused import Fused


@dataclass(frozen=True)
class MMDiTConfig:
    """The FLUX transformer. `axes_dim` divides a head's channels among the rope axes (text, row, column)."""

    in_channels: int = 64
    vec_in_dim: int = 768
    context_in_dim: int = 4096
    hidden_size: int = 3072
    mlp_ratio: float = 4.0
    num_heads: int = 24
    depth: int = 19
    depth_single_blocks: int = 38
    axes_dim: tuple[int, ...] = (16, 56, 56)
    theta: int = 10_000
    qkv_bias: bool = True
    guidance_embed: bool = True

    def __post_init__(self) -> None:
        widths = dict.fromkeys(("in_channels", "vec_in_dim", "context_in_dim", "hidden_size"), WIDTH)
        layers = {"depth": LAYERS, "depth_single_blocks": LAYERS, "mlp_ratio": (1 / 64, 64)}
        check_bounds(self, **widths, **layers, num_heads=WIDTH, axes_dim=WIDTH, theta=(1, 1e12))
        check_divides(self, "hidden_size", "num_heads")
        if len(self.axes_dim) != 3 or any(d % 2 for d in self.axes_dim):
            raise ValueError(f"axes_dim must be three even numbers, got {self.axes_dim}")
        if sum(self.axes_dim) != self.head_dim:
            raise ValueError(
                f"axes_dim {self.axes_dim} add up to {sum(self.axes_dim)}, expected the head size "
                f"hidden_size / num_heads = {self.head_dim}"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def mlp_size(self) -> int:
        return int(self.hidden_size * self.mlp_ratio)


FUSED = Fused(columns=("qkv", "lin"), rows=("linear2",))
CUT_ON_GPUS = {"single_blocks": Fused(columns=("qkv",), rows=("linear2",))}
