"""imgconv: image filtering and CNN feature maps with the semantics of torch.nn.Conv2d."""

__version__ = "0.1.0"
