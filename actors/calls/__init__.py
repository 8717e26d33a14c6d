"""How processes call each other. Every process uses it."""
