"""Options of XLA's compiler that are not its defaults, by the platform that they are for."""

# Eigen, one of XLA's two libraries for CPUs, is faster for many float32 products (benchmarks/scoring.py,
# benchmarks/scone), and slower for the small model's training step.
EIGEN_PRODUCTS = {"cpu": {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}}

# XLA makes one product of a large and a small one that read the same array, such as a LoRA's beside its
# layer's, and copies both results out of it: 5 ms of 213 a sample in FLUX's LoRA step (docs/benchmarks.md).
PRODUCTS_APART = {"gpu": {"xla_gpu_dot_merger_threshold_mb": 0}}
