"""The splash kernel's blocks: whether those chosen compile for each TPU, and what they pad.

    python -m benchmarks.splash            # needs libtpu (pip install 'uno_jax[plan]'), and no TPU

One sample and one key head of 128 channels in bfloat16, forward and with the gradient. Nothing is run: MiB
are the vector memory that the compiler gives a kernel, of 16 that it may use on v5e and v5p; padded is the
share of queries times keys that is added, and what blocks of 512 add.
"""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.measure import table
from uno_jax.costs.devices import find_devices
from uno_jax.networks.attention.tpu import block_of, largest_block, splash_attention
from uno_jax.sharding.rules import make_mesh

CHIPS = ("v5e:2x2", "v5p:2x2x1", "v6e:2x2")
USED = re.compile(r'"used_scoped_memory_configs":\[\{[^]]*?"size":"(\d+)"')


class Case(NamedTuple):
    """Queries and keys of a network, the query heads that share a key head, and whether keys are hidden."""

    queries: int
    keys: int
    heads: int = 1
    hidden: bool = False


CASES = {
    "FLUX, 1024²": Case(4608, 4608),
    "FLUX, 512² and a reference of 512²": Case(2560, 2560),
    "FLUX, 704² and two of 320²": Case(3248, 3248),
    "FLUX, 512² and two of 320²": Case(2336, 2336),
    "Scone, 1024² and a reference": Case(4098, 13382, 7, True),
    "Scone, 1024² and four": Case(4098, 41042, 7, True),
}


def compiled_memory(mesh: Mesh, case: Case) -> tuple[float, float]:
    """MiB of vector memory that the kernels of the forward, and of it and the gradient, use at most.

    Raises jax.errors.JaxRuntimeError where they do not compile.
    """
    place, chip = NamedSharding(mesh, PartitionSpec()), mesh.devices.flat[0].device_kind

    def array(length: int, heads: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, length, heads, 128), jnp.bfloat16, sharding=place)

    seen = jax.ShapeDtypeStruct((1, case.keys), jnp.bool_, sharding=place) if case.hidden else None

    def forward(q, k, v, seen):
        return splash_attention(q, k, v, seen, 128**-0.5, chip)

    gradient = jax.grad(lambda *x: forward(*x).astype(jnp.float32).sum(), argnums=(0, 1, 2))
    inputs = (array(case.queries, case.heads), array(case.keys, 1), array(case.keys, 1), seen)
    with jax.set_mesh(mesh):
        texts = [jax.jit(f).lower(*inputs).compile().as_text() for f in (forward, gradient)]
    first, both = (max(map(int, USED.findall(text))) / 2**20 for text in texts)
    return first, both


def padded(size: int, block: int) -> float:
    """The length in whole blocks over the length."""
    return (size + -size % block) / size


def rows(topology: str, cases: dict[str, Case]) -> list[list[str]]:
    """A row for each case: its blocks, vector memory, and padding."""
    mesh = make_mesh(1, 1, 1, devices=find_devices(topology)[:1])
    largest = largest_block(mesh.devices.flat[0].device_kind, 128, jnp.bfloat16)
    found = []
    for name, case in cases.items():
        blocks = [block_of(size, largest) for size in (case.queries, case.keys)]
        added, before = (
            padded(case.queries, q) * padded(case.keys, kv) - 1 for q, kv in (blocks, (512, 512))
        )
        try:
            memory = "{:.1f}, {:.1f}".format(*compiled_memory(mesh, case))
        except jax.errors.JaxRuntimeError as error:
            memory = f"does not compile: {str(error).splitlines()[0][:100]}"
        sizes = f"{case.queries} x {case.keys}"
        shares = (f"{share:.1%}" for share in (added, before))
        found.append([topology, name, sizes, "{} x {}".format(*blocks), memory, *shares])
    return found


def main() -> None:
    head = ["chip", "attention", "queries x keys", "blocks", "MiB forward, with gradient", "padded", "by 512"]
    print(table(head, [row for chip in CHIPS for row in rows(chip, CASES)]))


if __name__ == "__main__":
    main()
