"""Power semantics, once for every hardware: buttons, durations, confirmation by the status input, grace times."""
