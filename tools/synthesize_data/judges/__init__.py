"""What measures pictures: features, parts, seams, and where a subject is."""
