"""Fault and hostility tests: one module a section (see scripts/test-faults)."""
