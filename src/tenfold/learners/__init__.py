"""Several learners, one run: learners, syncer, their wire and their supervisor."""
