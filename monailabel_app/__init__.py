"""MONAI Label app that serves models of the Swin-UMamba bundle: segment, correct, learn from the corrections.

Every model is a folder with `model.pt` and `model.yaml`; what is done with it is defined by the bundle's own configs.
"""
