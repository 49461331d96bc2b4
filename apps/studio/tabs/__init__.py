"""The tabs of the studio: each file has ``build(studio) -> Tab``, called inside its tab."""
