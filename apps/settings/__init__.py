"""How settings are read and checked, and what follows from them."""
