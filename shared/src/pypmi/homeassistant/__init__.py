"""Home Assistant's MQTT discovery: what it is told of nodes and services, and when."""
