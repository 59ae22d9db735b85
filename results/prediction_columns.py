"""The columns of a file of external predictions; apart, as the help of a command prints them."""

WANTED = {
    "method": "text: what tables call it",
    "task": "text: registry name",
    "shift": "text: clean, gaussian_noise@3",
    "image": "whole number: place in the test split, from 0",
    "prediction": "the class: its number from 0, or its name as text",
}
OPTIONAL = {
    "seed": "whole number: the method's; 0 if there is no such column",
    "file": "text: the image's file, as `results template` names it; not read",
    "confidence": "number in [0, 1]: probability of the prediction; for ece, aurc ...",
    "probabilities": "list of numbers, one per class, not in .csv; for nll, brier ... too",
}
