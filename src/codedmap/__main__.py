if __name__ == "__main__":  # each worker imports this module too, and needs nothing of it
    from ._cli import main

    main()
