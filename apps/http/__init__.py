"""HTTP: the steps between a route and its view, and the headers of every response."""
