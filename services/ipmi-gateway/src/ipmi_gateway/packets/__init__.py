"""Packet formats: RMCP, ASF, IPMI 1.5 and RMCP+ session headers, IPMI messages. Bytes in, values out, and back."""
