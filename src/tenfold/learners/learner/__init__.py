"""A learner: trains on its own, sends movements of fragments, merges what comes back."""
