"""Pictures of what a trained network looks at: Grad-CAM for every network, and what each family of networks computes
on its way: GloRe's nodes, EurNet's neighbors, GLNet's clusters, EAT's class attention, HorNet's interactions.
"""
