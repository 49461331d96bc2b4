"""An HTTP server that many can share: one model, batches of what fits together, fair by key.

guard (names, sizes)  ->  routers: native, health, ...  ->  service.submit  ->  lanes (by key)
                          asking: fields -> settings                         ->  artist (draws)
tickets: jobs as their owners see them     kept: how many of them, how long
"""
