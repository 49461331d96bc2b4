"""A LINE account that draws: a message becomes a picture in the chat."""
