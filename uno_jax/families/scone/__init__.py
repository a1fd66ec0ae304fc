"""Scone (arXiv 2512.12675): BAGEL-7B-MoT that draws the subject named by the text, of crowded references."""
