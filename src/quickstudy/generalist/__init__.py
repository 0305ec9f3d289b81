"""One network, one set of weights, many kinds of task: the generalist agent. It needs the extra `generalist`."""
