"""Agent for buttons and power LEDs wired to Raspberry Pi GPIO."""
