"""What Scone costs: its forward, drawing and writing from a cache, compilation, and operations."""
