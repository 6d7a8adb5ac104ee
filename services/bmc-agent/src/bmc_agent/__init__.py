"""Agent for machines that have a BMC of their own."""
