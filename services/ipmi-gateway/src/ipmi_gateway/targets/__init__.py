"""Machines that the gateway serves: nodes behind the bus, and Python objects in process."""
