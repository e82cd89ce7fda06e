"""What is read: videos, images and graphs."""
