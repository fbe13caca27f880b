"""PyTorch checkpoints (.pth, .pt, .bin, .ckpt), read without PyTorch and without running a thing.

A checkpoint is a pickle that describes tensors, and the raw bytes of their storages: a ZIP archive
(`data.pkl`, `data/0`, `data/1`, …), or before PyTorch 1.6 a row of pickles with the bytes behind.
`unpickler` reads the pickle with a list of all that it may name; `tensors` says what those names
make here; `files` finds the bytes. Source: torch/serialization.py and torch/_utils.py of PyTorch.
"""

from imgconv.nn.checkpoint.files import is_archive as is_archive
from imgconv.nn.checkpoint.files import read_checkpoint as read_checkpoint
from imgconv.nn.checkpoint.tensors import Tensor as Tensor
from imgconv.nn.checkpoint.unpickler import shown as shown
