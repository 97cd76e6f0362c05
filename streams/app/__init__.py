"""The processor of `penstock worker`: a Faust application whose two agents leave the work to desks."""
