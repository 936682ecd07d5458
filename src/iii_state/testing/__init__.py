"""For our tests, and for people who write stores: the contract suite and doubles."""
