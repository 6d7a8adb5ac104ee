"""The ground every pypmi service stands on: contract, bus, agent runtime, power semantics, configuration."""
