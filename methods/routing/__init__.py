"""Per-sample merging: routers, compressed task vectors, and how they are mixed."""
