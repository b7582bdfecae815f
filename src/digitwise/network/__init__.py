"""Steps 4 and 5 of the tutorial: declare the network, train it, evaluate it."""
