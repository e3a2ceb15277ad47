"""The corpus build as a graph of tasks: each a function of what lies in the work folder, written there once, whole."""
