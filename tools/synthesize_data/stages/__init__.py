"""One file per stage; order.py lists them."""
