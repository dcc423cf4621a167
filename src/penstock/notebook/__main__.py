"""``python -m penstock.notebook``, started by ``penstock.client``."""

from penstock.notebook.process import main

if __name__ == "__main__":
    main()
