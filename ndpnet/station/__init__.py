"""A station at the line: watches for pictures, judges them, is corrected by people, and says when the line changes."""
