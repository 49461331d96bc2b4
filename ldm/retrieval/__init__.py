"""Drawing with neighbours: a database of embedded pictures and the search in it."""
