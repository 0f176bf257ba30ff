"""What hangs below single objects: scale, binding, eviction, token, finalize, ephemeralcontainers."""
