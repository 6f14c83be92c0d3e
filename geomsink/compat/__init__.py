"""Drop-in replacements for other libraries' interfaces, a file or folder each, which users import.

Imports `transport`, `divergences` and what is below. Hands nothing on.
"""
