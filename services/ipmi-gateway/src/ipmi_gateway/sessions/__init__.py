"""Authentication and sessions: cipher suites, users, RAKP, sequence windows, limits."""
