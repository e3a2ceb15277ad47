"""Learners that are anybody's training loop: a plain PyTorch one, or Hugging Face Trainer."""
