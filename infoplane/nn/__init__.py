"""Networks that hold many replicas side by side."""
