"""Relay of serial consoles (local, RFC 2217, raw TCP) to the MQTT bus."""
