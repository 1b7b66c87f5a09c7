"""`strongroom dev`: the whole product on one machine, and a tour of one secret's life."""
