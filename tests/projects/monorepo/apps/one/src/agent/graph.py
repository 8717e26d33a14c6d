from shared_library.build import build

from .state import NAME

graph = build(NAME)
