"""Speed and memory against what a user would do instead; `make bench` runs them all."""
