"""Real engines for development and tests, as plain processes: no containers."""
