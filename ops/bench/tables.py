"""Markdown tables."""


def table(rows):
    """A table of text cells: the first row is its head, all columns but the first are numbers."""
    rule = ["---"] + ["--:"] * (len(rows[0]) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]])
