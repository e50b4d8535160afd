"""Small diffusion models trained on scenes drawn by code, and the scorer that goes with them."""
