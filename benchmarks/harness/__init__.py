"""The benchmark: sets gateways up, loads them, tells what they cost. See ``scripts/bench``."""
