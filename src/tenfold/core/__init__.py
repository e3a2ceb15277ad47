"""What every room writes again otherwise: errors, files, the campaign folder, console, signals."""
