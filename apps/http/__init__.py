"""HTTP: everything between a route and its view, and what every answer carries."""
