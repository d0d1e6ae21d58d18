from living import program

__all__ = ["program"]
