"""HTML, CSS and JavaScript of the report."""
