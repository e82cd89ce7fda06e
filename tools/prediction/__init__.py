"""What tools/predict.py does: rows for files, windows of long videos, and tables that continue."""
