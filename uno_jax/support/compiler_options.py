"""Options of XLA's compiler that are not its defaults, by the platform that they are for."""

# Eigen, one of XLA's two libraries for CPUs, is faster for many float32 products (benchmarks/scoring.py,
# benchmarks/scone), and slower for the small model's training step.
EIGEN_PRODUCTS = {"cpu": {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}}
