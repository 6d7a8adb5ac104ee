"""The table of commands: one module per network function, each entry with its privilege and length."""
