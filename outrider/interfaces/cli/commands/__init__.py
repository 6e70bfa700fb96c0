"""Commands, one file each with an `APP`; the file's name is the command's, its first line the help."""
