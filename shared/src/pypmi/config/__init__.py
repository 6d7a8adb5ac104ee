"""Configuration: one fleet.yaml that all services read, each taking its part."""
