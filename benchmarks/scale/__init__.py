"""How far one machine goes: `python -m benchmarks.scale`."""
