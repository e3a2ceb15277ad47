"""`python -m tenfold`, also under torchrun."""

from tenfold.cli import main

if __name__ == "__main__":
    main()
