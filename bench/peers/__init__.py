"""The comparison with what one would pick instead: `python -m bench.peers`."""
