"""What networks see and react to: sizes, receptive fields, gradients, differences."""
