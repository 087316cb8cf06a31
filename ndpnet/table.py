"""Tables as plain text for a terminal."""

from collections.abc import Sequence


def format_rows(rows: Sequence[Sequence[str]], *, are_numbers: bool = False) -> list[str]:
    """Columns as wide as their widest cell; the first row is the head. are_numbers: of all columns but the first."""
    rows = [[one_line(cell) for cell in row] for row in rows]  # names and tags are what others have written
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *rest = (
            cell.rjust(width) if are_numbers and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *rest]).rstrip())
    return [lines[0], "-" * min(120, max(len(line) for line in lines)), *lines[1:]]


def one_line(text: str) -> str:
    """Text of others without what would break a table or command a terminal."""
    return "".join(char if char.isprintable() else " " for char in " ".join(text.split()))
