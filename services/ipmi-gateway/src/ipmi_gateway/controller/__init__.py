"""The parts of a management controller. They take requests' bytes and times as arguments, and do no I/O."""
