if __name__ == "__main__":  # each worker imports this module too, and needs nothing of it
    from .cli import main

    main()
