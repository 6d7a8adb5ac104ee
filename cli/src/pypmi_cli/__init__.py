"""pypmi, the operator's tool."""
