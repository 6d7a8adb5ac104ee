"""Agent for ESP8266 relay boards (Universal I/O bridge firmware, Tasmota, ESPHome)."""
