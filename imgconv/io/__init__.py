"""Images: reading, preparing, scaling, encoding and publishing."""
