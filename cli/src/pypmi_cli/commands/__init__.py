"""The commands that look at and work a fleet over its broker: one module each."""
