"""Pictures that scripts draw."""
