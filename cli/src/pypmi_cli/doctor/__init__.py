"""What `pypmi doctor` looks at, link by link from the operator to the node. Nothing in here moves hardware."""
