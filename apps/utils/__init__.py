"""Small helpers, one per file. They import nothing from the other packages."""
