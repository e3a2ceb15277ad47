"""A learner: trains on its own, sends pseudo-gradients of fragments, merges what comes back."""
