"""The verbs of `strongroom encrypt`, one file for each."""
