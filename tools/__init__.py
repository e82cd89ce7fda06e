"""What a person starts: train, evaluate, predict, benchmark."""
