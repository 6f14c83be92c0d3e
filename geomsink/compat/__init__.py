"""Drop-in replacements for other libraries' interfaces, one file each."""
