"""One stack becomes one result: the request, the tiles, the loop, the products."""
