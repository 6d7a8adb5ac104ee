"""IPMI 2.0 gateway: RMCP+ on UDP to nodes on the MQTT bus."""
