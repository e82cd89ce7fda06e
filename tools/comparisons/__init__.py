"""Tables of recipes: the lines of a table, the cost of their networks, and how their runs compare."""
