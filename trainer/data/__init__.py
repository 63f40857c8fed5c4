"""Built-in sources of rows, and transforms of rows."""
