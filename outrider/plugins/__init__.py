"""Extensions: one file each, discovered by file name. They know their contract, not the product."""
