"""Shows what a trained network looks at: Grad-CAM for every network, and the intermediate maps of each family:
GloRe's nodes, EurNet's neighbors, GLNet's clusters, EAT's class attention, HorNet's interactions.
"""
