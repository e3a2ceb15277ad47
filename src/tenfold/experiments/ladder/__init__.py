"""The ladder of a campaign: which rungs there are, training them side by side, what came of them."""
