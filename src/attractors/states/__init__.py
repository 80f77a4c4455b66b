"""What a spurious state is: fixed points of denoising, how often samples repeat, and blends of training images."""
