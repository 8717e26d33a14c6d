WORD = "hyphen"
