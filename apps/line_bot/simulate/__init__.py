"""A stand-in for LINE's servers on this machine, with a chat page: no account, no network.

with StandIn() as line:
    line.connect("http://127.0.0.1:8000/callback")
    line.say(line.users[0], "a cat on a blue background")
    line.wait_for_messages(line.users[0], 1)
"""

from apps.line_bot.simulate.people import Chat, Person
from apps.line_bot.simulate.places import BotPlace
from apps.line_bot.simulate.refusals import Refusal
from apps.line_bot.simulate.running import run_simulation, simulation
from apps.line_bot.simulate.stand_in import StandIn
from apps.line_bot.simulate.switches import Switches

__all__ = [
    "BotPlace",
    "Chat",
    "Person",
    "Refusal",
    "StandIn",
    "Switches",
    "run_simulation",
    "simulation",
]
