"""The stages of dvc.yaml, one click command each."""
