"""The page that `tenfold watch` serves: a ledger read as it grows, thinned for the screen, told as a feed."""
