"""What was measured, and what the paper says: tables, comparisons."""
