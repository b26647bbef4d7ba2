"""`python -m blindpairs`: the same as the `blindpairs` command."""

from blindpairs.cli import main

if __name__ == "__main__":
    main()
