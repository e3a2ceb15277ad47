"""The syncer: holds the global fragments and merges what learners contribute."""
