"""A run or a network as one self-contained page: `sections` gathers, `page` writes."""
