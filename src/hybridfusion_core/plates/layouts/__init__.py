"""How each vendor lays out a plate, a module each; `table` lists them."""
