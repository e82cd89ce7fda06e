"""Tables of recipes: which lines a table has, what their networks cost, and how their runs compare."""
