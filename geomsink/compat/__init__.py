"""Drop-in replacements for other libraries' interfaces, one file each, which users import.

Imports `divergences` and what is below. Hands nothing on.
"""
