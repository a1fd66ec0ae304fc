"""Servers and files made to harm a client, and what the commands make of them."""
