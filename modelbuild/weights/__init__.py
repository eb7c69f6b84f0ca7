"""The account of the weights: which tensor of the original each weight of a graph comes from. Pure numpy."""
