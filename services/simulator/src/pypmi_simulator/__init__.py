"""Simulated relay boards, machines and consoles, faithful on the wire."""
