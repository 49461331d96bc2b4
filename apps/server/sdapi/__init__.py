"""AUTOMATIC1111's ``/sdapi/v1``: the part of it that its clients use."""
